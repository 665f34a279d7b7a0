"""Keeping the text column: built for a search, added to as messages come, made anew when they leave; a slice at a time.

Slices are read in reader threads, and written only if the column is still as it was read; so two processes may do it at
once, and a crash leaves a column that is shorter or marked as stale.
"""

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from certmaild.keystore.errors import KeysClosed
from certmaild.mailbox.absorb import LEASE_S, Leases
from certmaild.mailbox.errors import ColumnDamaged, FolderMissing, MailboxError, StoreUnavailable
from certmaild.mailbox.identifiers import BoxId
from certmaild.mailbox.pages import read_head
from certmaild.mailbox.reach import Reach
from certmaild.mailbox.text_column import Column, has_column
from certmaild.mailbox.text_frames import build, cut_off, without_gone
from certmaild.mailbox.text_marks import first_marks

log = Logger()

GROWTH_S = 1.0
"""What comes into a folder waits so long for more that is added to the column with it."""
LONGEST_REST_S = 1.0
EVERY_UID = 0xFFFFFFFF
FAR_UIDS = 4096
"""A search does not wait for more of the column than this in front of what it needs."""


class TextKeeper:
    """Keeps the columns of one open mailbox, one slice at a time, whoever asks."""

    def __init__(
        self,
        reach: Reach,
        leases: Leases | None = None,
        call_later: Callable[[float, Callable[[], None]], object] | None = None,
        *,
        ahead: bool = False,
    ) -> None:
        self._reach = reach
        self._leases = leases
        self._call_later = call_later
        self._ahead = ahead
        self._lease = b"text" + reach.user_id
        self._lock = DeferredLock()
        self._cleaning: Deferred[None] | None = None
        self._again = False
        self._growing: set[BoxId] = set()
        self._following: dict[BoxId, int] = {}
        self.alarmed: set[bytes] = set()
        """Folders some of whose texts were found changed on disk."""
        self._stopped = False

    async def extend(self, box_id: BoxId, first: int, through: int) -> bool:
        """Let the column name all messages up to the UID ``through``; whether it does.

        False when it would take long, for it ends far in front of ``first``; when another process is at it; when the
        store takes no more. Raises `Damaged`, and `ColumnDamaged`, which can be mended.
        """
        await self._lock.acquire()
        try:
            while not self._stopped:
                end = await self._reach.read(lambda txn: Column(txn, self._reach.shelf, box_id).next_uid)
                if end > through:
                    return True
                if end + FAR_UIDS < first or not await self._build(box_id, through):
                    return False
        finally:
            self._give_back()
            self._lock.release()
        return False

    async def _build(self, box_id: BoxId, through: int) -> bool:
        """Add one slice; False when there is nothing to add or it cannot be added."""
        if not self._take():
            return False
        reach, shelf = self._reach, self._reach.shelf
        try:
            built = await reach.scan(lambda txn: build(txn, shelf, box_id, through))
            if built is not None:
                await reach.write(lambda txn: built.write(txn, shelf), grows=True)
        except StoreUnavailable as error:
            log.warn("the text column is not written: {error}", error=repr(error))
            return False
        return built is not None

    def grew(self, box_id: BoxId) -> None:
        """Messages came into a folder: its column will name them soon, if it has one or is to be built ``ahead``.

        Without ``call_later`` the next search adds them.
        """
        if self._call_later is not None and box_id not in self._growing and not self._stopped:
            self._growing.add(box_id)
            self._call_later(GROWTH_S, lambda: self._grow(box_id))

    def _grow(self, box_id: BoxId) -> None:
        self._growing.discard(box_id)
        if not self._stopped:
            growing = Deferred.fromCoroutine(self._follow_growth(box_id))
            growing.addErrback(lambda failure: log.failure("a text column does not grow", failure))

    async def _follow_growth(self, box_id: BoxId) -> None:
        reach = self._reach
        try:
            if self._ahead or await reach.read(lambda txn: has_column(txn, reach.user_id, box_id)):
                head = await reach.read(lambda txn: read_head(txn, reach.shelf, box_id))
                # No further: while much comes, each slice is as large as a second makes it.
                self.follow(box_id, head.uid_next - 1)
        except FolderMissing:
            pass

    def follow(self, box_id: BoxId, through: int = EVERY_UID) -> None:
        """Build the column of a folder in the background, up to the UID ``through``."""
        if self._stopped:
            return
        is_followed = box_id in self._following
        self._following[box_id] = max(through, self._following.get(box_id, 0))
        if not is_followed:
            following = Deferred.fromCoroutine(self._follow(box_id))
            following.addErrback(lambda failure: log.failure("building a text column failed", failure))

    async def _follow(self, box_id: BoxId) -> None:
        through = 0
        try:
            while not self._stopped and through < self._following[box_id]:
                through = self._following[box_id]
                while not self._stopped and await self._mended(lambda: self._follow_slice(box_id, through)):  # noqa: B023
                    pass
        except (MailboxError, KeysClosed) as error:
            log.error("building the text column stopped: {error}", error=repr(error))
        finally:
            del self._following[box_id]

    async def _follow_slice(self, box_id: BoxId, through: int) -> bool:
        """Add one slice; whether there may be more."""
        await self._lock.acquire()
        begun = self._reach.seconds()
        try:
            more = await self._build(box_id, through)
        finally:
            self._give_back()
            self._lock.release()
        if more:
            await self._rest(self._reach.seconds() - begun)
        return more

    async def _rest(self, seconds: float) -> None:
        """Leave the interpreter to others for as long as it was taken from them."""
        if self._call_later is not None and seconds > 0:
            rested: Deferred[None] = Deferred()
            self._call_later(min(seconds, LONGEST_REST_S), lambda: rested.callback(None))
            await rested

    # What was changed on disk.

    async def mend(self, damaged: ColumnDamaged) -> None:
        """Remove a damaged frame, and those behind it: whatever looks for a text makes them anew from the messages."""
        reach, shelf = self._reach, self._reach.shelf
        if damaged.box_id not in self.alarmed:
            # Once a folder, for many of its frames may have been changed.
            self.alarmed.add(damaged.box_id)
            log.critical(
                "ALARM: search texts of {user} were changed on disk ({what}); they are made anew from the messages",
                user=reach.user_id.hex(),
                what=damaged,
            )
        while await reach.write(lambda txn: cut_off(txn, shelf, damaged)):
            pass

    async def _mended(self, work: Callable[[], Awaitable[bool]]) -> bool:
        """What ``work`` gives; True, with a damaged frame removed, if there was one."""
        try:
            return await work()
        except ColumnDamaged as damaged:
            await self.mend(damaged)
            return True

    # Cleaning.

    def clean(self) -> None:
        """Take the text of messages that left their folder out of the columns, in the background."""
        self._again = True
        if self._cleaning is None:
            self._cleaning = Deferred.fromCoroutine(self._clean())
            self._cleaning.addErrback(lambda failure: log.failure("cleaning the text column failed", failure))
            self._cleaning.addBoth(self._cleaned)

    def _cleaned(self, _: object) -> None:
        self._cleaning = None

    async def _clean(self) -> None:
        try:
            while self._again:
                self._again = False
                while await self._mended(self._clean_slice):
                    pass
        except (MailboxError, KeysClosed) as error:
            log.error("cleaning the text column stopped: {error}", error=repr(error))

    async def _clean_slice(self) -> bool:
        """Make some marked frames anew; False when none is marked, or another process is at it."""
        reach, shelf = self._reach, self._reach.shelf
        if not await reach.read(lambda txn: first_marks(txn, shelf.user_id, 1)):
            return False
        await self._lock.acquire()
        try:
            if not self._take():
                return False
            remade = await reach.scan(lambda txn: without_gone(txn, shelf))
            if remade is not None:
                await reach.write(lambda txn: remade.write(txn, shelf))
            return remade is not None
        finally:
            self._give_back()
            self._lock.release()

    def _take(self) -> bool:
        return self._leases is None or self._leases.take(self._lease, LEASE_S)

    def _give_back(self) -> None:
        if self._leases is not None:
            self._leases.give_back(self._lease)

    async def close(self) -> None:
        """Build no further; wait until what is being cleaned is clean."""
        self._stopped = True
        if self._cleaning is not None:
            await self._cleaning
