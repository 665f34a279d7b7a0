"""What work on one user's rows takes: engine, server secrets, his keys and page cache, the time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.identifiers import BoxId, UserId
from certmaild.mailbox.interfaces import Engine, ReadTxn, WriteTxn
from certmaild.mailbox.pages import Shelf, Touched

T = TypeVar("T")


@dataclass(slots=True)
class Reach:
    """Shared by the parts of one open mailbox; every transaction holds the key ring until it is answered."""

    engine: Engine
    secrets: ServerSecrets
    shelf: Shelf
    seconds: Callable[[], float]
    """Seconds since 1970, such as ``reactor.seconds``."""
    padding: bool = True
    """Whether messages that are written here get Padme padding (`certmaild.mailbox.layout.pack_frame`)."""
    recent_claims: dict[BoxId, int] = field(default_factory=dict)
    """UIDs below this were told to a session of this process as ``\\Recent``."""

    @property
    def user_id(self) -> UserId:
        """Whose mailbox."""
        return self.shelf.user_id

    def now(self) -> int:
        """Whole seconds since 1970."""
        return int(self.seconds())

    async def read(self, work: Callable[[ReadTxn], T]) -> T:
        """A short read, on this thread."""
        with self.shelf.keys:
            return await self.engine.read(work)

    async def scan(self, work: Callable[[ReadTxn], T]) -> T:
        """A long read, in a reader thread."""
        with self.shelf.keys:
            return await self.engine.scan(work)

    async def write(self, work: Callable[[WriteTxn], T], *, grows: bool = False) -> T:
        """A durable write; ``grows``: refused below the floor of free disk."""
        shelf = self.shelf
        journal: list[Touched] = []

        def journalled(txn: WriteTxn) -> T:
            journal.clear()
            shelf.journal = journal
            try:
                return work(txn)
            finally:
                shelf.journal = None

        answer = await self.engine.write(journalled, holding=shelf.keys, grows=grows)
        shelf.keep_journal(journal)
        return answer
