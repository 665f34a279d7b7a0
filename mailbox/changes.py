"""What commits change, told to whoever asked to be woken: the only upward travel out of the store."""

from dataclasses import dataclass
from enum import IntEnum

from certmaild.mailbox.identifiers import BoxId, UserId


class ChangeKind(IntEnum):
    """What a watcher should look at again."""

    ARRIVAL = 1
    """Sealed mail waits to be absorbed."""
    FOLDER = 2
    """Messages, flags or counts of one folder (``box_id``)."""
    FOLDERS = 3
    """The folder table: names, subscriptions."""
    ACCOUNT = 4
    """State, limits, credentials: sessions re-check their login."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing of one user that a commit touched."""

    kind: ChangeKind
    user_id: UserId
    box_id: BoxId | None = None
