"""What commits change, told to whoever asked to be woken: the only upward travel out of the store."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum

from twisted.logger import Logger

from certmaild.mailbox.identifiers import BoxId, UserId

log = Logger()


class ChangeKind(IntEnum):
    """What a watcher should look at again."""

    ARRIVAL = 1
    """Sealed mail waits to be absorbed."""
    FOLDER = 2
    """Messages, flags or counts of one folder (``box_id``; None: any of them)."""
    FOLDERS = 3
    """The folder table: names, subscriptions."""
    ACCOUNT = 4
    """State, limits, credentials: sessions re-check their login."""
    PARTNERS = 5
    """A partner record made by command; of no user."""
    QUEUE = 6
    """Mail on its way out has something to do; of no user."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing of one user that a commit touched."""

    kind: ChangeKind
    user_id: UserId
    box_id: BoxId | None = None


NOBODY = UserId(bytes(16))
"""Stands for the user where a change is of none: who watches it is told of `ChangeKind.PARTNERS` and `QUEUE`."""
PARTNERS_CHANGED = Change(ChangeKind.PARTNERS, NOBODY)
QUEUE_CHANGED = Change(ChangeKind.QUEUE, NOBODY)

Callback = Callable[[Change], None]


class Watch:
    """One watcher's place in the hub."""

    __slots__ = ("_hub", "callback", "user_id")

    def __init__(self, hub: "ChangeHub", user_id: UserId, callback: Callback) -> None:
        self._hub = hub
        self.user_id = user_id
        self.callback = callback

    def stop(self) -> None:
        """No further calls; may be called twice, and from within the callback."""
        self._hub.forget(self)


class ChangeHub:
    """Who watches which user, in this process. Callbacks run on the reactor's thread, after the commit."""

    def __init__(self) -> None:
        self._watches: dict[UserId, dict[Watch, None]] = {}

    @property
    def is_watched(self) -> bool:
        """Whether anybody watches anything."""
        return bool(self._watches)

    def watch(self, user_id: UserId, callback: Callback) -> Watch:
        """Call ``callback`` with each change of this user until `Watch.stop`."""
        watch = Watch(self, user_id, callback)
        self._watches.setdefault(user_id, {})[watch] = None
        return watch

    def forget(self, watch: Watch) -> None:
        """Take a watcher out."""
        watches = self._watches.get(watch.user_id)
        if watches is not None:
            watches.pop(watch, None)
            if not watches:
                del self._watches[watch.user_id]

    def deliver(self, changes: Iterable[Change]) -> None:
        """Tell each change once to the watchers of its user."""
        if not self._watches:
            return
        for change in dict.fromkeys(changes):
            for watch in tuple(self._watches.get(change.user_id, ())):
                if watch in self._watches.get(change.user_id, ()):
                    self._call(watch, change)

    def deliver_everything(self) -> None:
        """Tell every watcher to look at everything: what happened is no longer known in detail."""
        self.deliver([Change(kind, user_id) for user_id in tuple(self._watches) for kind in ChangeKind])

    def _call(self, watch: Watch, change: Change) -> None:
        try:
            watch.callback(change)
        except Exception:
            log.failure("a watcher failed")
