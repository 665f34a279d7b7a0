"""The log of partner records made by command: appended to, never rewritten, so that it shows who agreed what when."""

from collections.abc import Collection

from certmaild.keystore.errors import SealBroken
from certmaild.mailbox.changes import PARTNERS_CHANGED
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.interfaces import ReadTxn, RowSealer, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_partners import (
    AFTER_ENTRIES,
    AFTER_WATCHED,
    ENTRIES,
    WATCHED,
    Act,
    PartnerEntry,
    PartnerWatched,
    decode_entry,
    decode_entry_key,
    decode_watched,
    encode_entry,
    encode_watched,
    entry_key,
    watched_key,
)


def append_entry(txn: WriteTxn, sealer: RowSealer, entry: PartnerEntry) -> None:
    """Add one entry; every process is told after the commit."""
    last = next(txn.scan(Table.PARTNER, ENTRIES, AFTER_ENTRIES, reverse=True), None)
    key = entry_key(1 if last is None else decode_entry_key(last[0]) + 1)
    txn.put(Table.PARTNER, key, sealer.seal_row(Table.PARTNER, key, encode_entry(entry)))
    txn.announce(PARTNERS_CHANGED)


def read_entries(txn: ReadTxn, sealer: RowSealer) -> list[PartnerEntry]:
    """The whole log, the oldest first. Raises `Damaged`: terms that cannot be read are not terms that do not count."""
    entries = []
    for expected, (key, value) in enumerate(txn.scan(Table.PARTNER, ENTRIES, AFTER_ENTRIES), 1):
        if decode_entry_key(key) != expected:
            raise Damaged("a row is missing in the log of partners")
        try:
            entries.append(decode_entry(sealer.open_row(Table.PARTNER, key, value)))
        except SealBroken:
            raise Damaged("partner row") from None
    return entries


def current_entries(entries: list[PartnerEntry]) -> dict[str, PartnerEntry]:
    """By domain: the entry that counts; a removed one does not."""
    newest = {entry.domain: entry for entry in entries}
    return {domain: entry for domain, entry in sorted(newest.items()) if entry.act is not Act.REMOVED}


def read_watched(txn: ReadTxn, sealer: RowSealer, domain_hash: str) -> PartnerWatched:
    """What the daily watch remembers; nothing where the row is missing or damaged: then it is told once more."""
    key = watched_key(domain_hash)
    value = txn.get(Table.PARTNER, key)
    try:
        return PartnerWatched() if value is None else decode_watched(sealer.open_row(Table.PARTNER, key, value))
    except (SealBroken, Damaged):
        return PartnerWatched()


def put_watched(txn: WriteTxn, sealer: RowSealer, domain_hash: str, watched: PartnerWatched) -> None:
    """Remember."""
    key = watched_key(domain_hash)
    txn.put(Table.PARTNER, key, sealer.seal_row(Table.PARTNER, key, encode_watched(watched)))


def forget_watched(txn: WriteTxn, but: Collection[str]) -> None:
    """Remove what is remembered of all others than those with these hashes."""
    kept = {watched_key(one) for one in but}
    for key in [key for key, _ in txn.scan(Table.PARTNER, WATCHED, AFTER_WATCHED) if key not in kept]:
        txn.delete(Table.PARTNER, key)
