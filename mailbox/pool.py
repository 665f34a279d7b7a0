"""The open mailboxes of one process: one a user, shared by his sessions, let go after the last."""

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.keystore.users import KeyRing
from certmaild.mailbox.absorb import Absorber, Leases
from certmaild.mailbox.changes import Change, ChangeHub, ChangeKind
from certmaild.mailbox.frame_streams import FrameStreams
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.interfaces import Engine
from certmaild.mailbox.opened import OpenMailbox
from certmaild.mailbox.pages import PageCache, Shelf
from certmaild.mailbox.reach import Reach
from certmaild.mailbox.text_keeper import TextKeeper

log = Logger()


@dataclass(slots=True)
class _Place:
    mailbox: OpenMailbox
    reach: Reach
    absorber: Absorber
    keeper: TextKeeper
    sessions: int
    stop_watch: Callable[[], None]


class MailboxPool:
    """Opens mailboxes; ``seconds`` is wall-clock time, such as ``reactor.seconds``.

    With ``leases`` shared by several processes, ``call_later`` (such as ``reactor.callLater``) is needed to take over
    from one that died.
    """

    def __init__(
        self,
        engine: Engine,
        secrets: ServerSecrets,
        hub: ChangeHub,
        seconds: Callable[[], float],
        *,
        leases: Leases | None = None,
        call_later: Callable[[float, Callable[[], None]], object] | None = None,
        cache_octets: int = 64 << 20,
        padding: bool = True,
        ahead: bool = False,
    ) -> None:
        self._engine = engine
        self._secrets = secrets
        self._hub = hub
        self._seconds = seconds
        self._leases = leases
        self._call_later = call_later
        self._cache = PageCache(cache_octets)
        self.padding = padding
        """Whether APPEND pads what it writes; a change holds for mailboxes opened from now on."""
        self.ahead = ahead
        """Whether folders get their text column as messages come, and not by the first search; likewise."""
        self.stirred: Callable[[UserId, KeyRing], None] = lambda user_id, keys: None
        """Told when something of the account of an open mailbox has changed."""
        self._frames = FrameStreams()
        self._places: dict[UserId, _Place] = {}

    def open(self, user_id: UserId, address: str, keys: KeyRing) -> OpenMailbox:
        """The user's mailbox, whose arrivals begin to be absorbed. Each call is answered by one ``close`` of it.

        The pool holds ``keys`` until the last session has closed; the caller keeps his own reference.
        """
        place = self._places.get(user_id)
        if place is None:
            place = self._places[user_id] = self._place(user_id, address, keys)
            place.keeper.clean()
        elif place.reach.shelf.keys is not keys:
            # Whoever unlocked them first has let them go: the mailbox goes on under the ring that is still owned.
            keys.__enter__()
            old, place.reach.shelf.keys = place.reach.shelf.keys, keys
            old.__exit__(None, None, None)
        place.sessions += 1
        place.absorber.kick()
        return place.mailbox

    def _place(self, user_id: UserId, address: str, keys: KeyRing) -> _Place:
        keys.__enter__()
        reach = Reach(self._engine, self._secrets, Shelf(user_id, keys, self._cache), self._seconds, self.padding)
        keeper = TextKeeper(reach, self._leases, self._call_later, ahead=self.ahead)
        absorber = Absorber(reach, self._leases, self._call_later, grew=keeper.grew)
        mailbox = OpenMailbox(
            reach, address, self._hub, absorber, keeper, self._frames, lambda: self._released(user_id)
        )

        def changed(change: Change) -> None:
            if change.kind is ChangeKind.ARRIVAL:
                absorber.kick()
            elif change.kind is ChangeKind.ACCOUNT:
                self.stirred(user_id, reach.shelf.keys)

        watch = self._hub.watch(user_id, changed)
        return _Place(mailbox, reach, absorber, keeper, 0, watch.stop)

    def _released(self, user_id: UserId) -> None:
        place = self._places.get(user_id)
        if place is None:
            return
        place.sessions -= 1
        if place.sessions > 0:
            return
        del self._places[user_id]
        self._frames.forget(user_id)
        place.stop_watch()
        place.absorber.stop()
        keeping = Deferred.fromCoroutine(place.mailbox.keep_claims())
        keeping.addErrback(lambda failure: log.failure("recent messages not kept", failure))
        keeping.addCallback(lambda _: Deferred.fromCoroutine(place.keeper.close()))
        keeping.addBoth(lambda _: self._let_go(place.reach))

    def _let_go(self, reach: Reach) -> None:
        if reach.user_id not in self._places:
            self._cache.forget(tuple(reach.shelf.boxes))
        reach.shelf.keys.__exit__(None, None, None)

    def __len__(self) -> int:
        return len(self._places)
