"""The folder table: names, special use, subscriptions and keyword names of one user."""

from collections.abc import Iterator
from dataclasses import dataclass

from certmaild.mailbox.identifiers import BoxId
from certmaild.mailbox.values import Folder


@dataclass(frozen=True, slots=True)
class FolderTable:
    """All folders of a user, a frozen snapshot; iteration is in LIST's order (INBOX first, then by name)."""

    version: int
    folders: tuple[Folder, ...]
    keywords: tuple[str, ...]
    """Keyword names by bit."""
    subscriptions: frozenset[str]
    """Subscribed names, also of folders that no longer exist."""

    def __iter__(self) -> Iterator[Folder]:
        return iter(self.folders)

    def by_name(self, name: str) -> Folder | None:
        """The folder of this name; ``INBOX`` in any case."""
        raise NotImplementedError

    def by_id(self, box_id: BoxId) -> Folder | None:
        """The folder with this id."""
        raise NotImplementedError
