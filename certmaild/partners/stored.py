"""Partner records made by command: written to the store's log, and kept at hand in every serving process."""

from collections.abc import Iterable
from pathlib import Path

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from certmaild.config_file import PartnerFile
from certmaild.mailbox.changes import NOBODY, PARTNERS_CHANGED, Change, ChangeKind, Watch
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.interfaces import Engine, ReadTxn, RowSealer, WriteTxn
from certmaild.mailbox.layout_partners import Act, PartnerEntry
from certmaild.mailbox.partner_log import append_entry, current_entries, read_entries
from certmaild.partners.book import PartnerBook
from certmaild.partners.reading import read_partner
from certmaild.partners.record import PartnerRecord

log = Logger()


class PartnerKnown(Exception):
    """There is a record of this domain already."""


class PartnerUnknown(Exception):
    """No command has made a record of this domain."""


def stored_file(entry: PartnerEntry) -> PartnerFile:
    """The keys that an entry holds. Raises `Damaged`."""
    try:
        return msgspec.json.decode(entry.record, type=PartnerFile)
    except msgspec.MsgspecError:
        raise Damaged("partner row") from None


def stored_record(entry: PartnerEntry) -> PartnerRecord:
    """The record that an entry holds; its paths are absolute. Raises `Damaged`."""
    try:
        return read_partner(stored_file(entry), Path)
    except ValueError:
        raise Damaged("partner row") from None


async def read_log(engine: Engine, secrets: RowSealer) -> list[PartnerEntry]:
    """Everything that commands did, the oldest first. Raises `Damaged`."""
    return await engine.scan(lambda txn: read_entries(txn, secrets))


def _entries_of(txn: ReadTxn, secrets: RowSealer) -> dict[str, PartnerEntry]:
    return current_entries(read_entries(txn, secrets))


async def add_partner(engine: Engine, secrets: RowSealer, file: PartnerFile, *, by: str, at_s: int) -> None:
    """Store a new record. ``file.domain`` is in A-labels, its paths absolute. Raises `PartnerKnown`."""

    def work(txn: WriteTxn) -> None:
        if file.domain in _entries_of(txn, secrets):
            raise PartnerKnown
        append_entry(txn, secrets, _entry(file, Act.ADDED, by, at_s))

    await engine.write(work)


async def change_partner(engine: Engine, secrets: RowSealer, file: PartnerFile, *, by: str, at_s: int) -> None:
    """Let other terms count from now on. Raises `PartnerUnknown`."""

    def work(txn: WriteTxn) -> None:
        if file.domain not in _entries_of(txn, secrets):
            raise PartnerUnknown
        append_entry(txn, secrets, _entry(file, Act.CHANGED, by, at_s))

    await engine.write(work)


async def remove_partner(engine: Engine, secrets: RowSealer, domain: str, *, by: str, at_s: int) -> None:
    """Let a record count no more; the log keeps it. Raises `PartnerUnknown`."""

    def work(txn: WriteTxn) -> None:
        if domain not in _entries_of(txn, secrets):
            raise PartnerUnknown
        append_entry(txn, secrets, PartnerEntry(at_s, by, Act.REMOVED, domain))

    await engine.write(work)


def _entry(file: PartnerFile, act: Act, by: str, at_s: int) -> PartnerEntry:
    return PartnerEntry(at_s, by, act, file.domain, msgspec.Raw(msgspec.json.encode(file)))


class LivePartners:
    """The book of a serving process, which follows what commands and reloads change."""

    def __init__(self, engine: Engine, secrets: RowSealer, configured: Iterable[PartnerRecord]) -> None:
        self.book = PartnerBook(configured)
        """Handed to whoever asks for partners."""
        self._engine = engine
        self._secrets = secrets
        self._watch: Watch | None = None
        self._is_reading = False
        self._must_read_again = False

    async def open(self) -> None:
        """Read the store, and follow it. Raises `Damaged`: mail must not go by other terms than those agreed."""
        self._watch = self._engine.hub.watch(NOBODY, self._changed)
        self._is_reading = True
        try:
            await self._read()
        except Damaged as broken:
            raise Damaged(f"the partner records are damaged ({broken}): put back a backup of the store") from None
        finally:
            self._done()

    def close(self) -> None:
        """Follow no longer."""
        if self._watch is not None:
            self._watch.stop()

    async def _read(self) -> None:
        entries = await read_log(self._engine, self._secrets)
        self.book.restock([stored_record(entry) for entry in current_entries(entries).values()])

    def _changed(self, change: Change) -> None:
        if change.kind is not ChangeKind.PARTNERS:
            return
        if self._is_reading:
            self._must_read_again = True
            return
        self._is_reading = True
        Deferred.fromCoroutine(self._read()).addErrback(_not_read).addBoth(lambda _: self._done())

    def _done(self) -> None:
        self._is_reading = False
        if self._must_read_again:
            self._must_read_again = False
            self._changed(PARTNERS_CHANGED)


def _not_read(failure: Failure) -> None:
    log.failure("ALARM: the partner records cannot be read; the former ones go on counting", failure)
