"""The folder table: names, special use, subscriptions and keyword names of one user, and changing them."""

import os
import unicodedata
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field, replace

from certmaild.keystore.errors import SealBroken
from certmaild.keystore.users import KeyRing
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.errors import (
    Damaged,
    FolderExists,
    FolderMissing,
    FolderNameInvalid,
    FolderProtected,
    HasChildren,
    LimitReached,
    ServerKeepsFolder,
)
from certmaild.mailbox.identifiers import BoxId
from certmaild.mailbox.interfaces import ReadTxn, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_messages import (
    FolderRow,
    FolderRows,
    Head,
    Record,
    UserHead,
    decode_folders,
    decode_user_head,
    encode_folders,
    encode_head,
    encode_user_head,
    head_key,
)
from certmaild.mailbox.pages import Shelf, write_head
from certmaild.mailbox.text_marks import mark_all
from certmaild.mailbox.values import MAX_FOLDERS, MAX_KEYWORDS, Folder, ServiceFolder, SpecialUse

INBOX = "INBOX"
MAX_NAME_OCTETS = 1000
MAX_LEVELS = 32
MAX_KEYWORD_OCTETS = 255

SPECIAL_FOLDERS = (
    ("Archive", SpecialUse.ARCHIVE),
    ("Drafts", SpecialUse.DRAFTS),
    ("Junk", SpecialUse.JUNK),
    ("Sent", SpecialUse.SENT),
    ("Trash", SpecialUse.TRASH),
)
"""Made and subscribed with the account (PROTOCOLS lesson 5)."""
FIRST_SERVICE = min(ServiceFolder)
SERVICE_NAMES = {
    ServiceFolder.DEVICES: "Devices",
    ServiceFolder.SETTINGS: "Settings",
    ServiceFolder.LATER: "Later",
}
"""Made and subscribed when the first message for them is absorbed."""
KEPT = frozenset((ServiceFolder.DEVICES, ServiceFolder.SETTINGS))
"""Not deleted or renamed while the account wants the server's folders."""


@dataclass(frozen=True, slots=True)
class FolderTable:
    """All folders of a user, a frozen snapshot; iteration is in LIST's order (INBOX first, then by name)."""

    version: int
    folders: tuple[Folder, ...]
    keywords: tuple[str, ...]
    """Keyword names by bit."""
    subscriptions: frozenset[str]
    """Subscribed names, also of folders that no longer exist."""
    _names: dict[str, Folder] = field(default_factory=dict, repr=False, compare=False)
    _ids: dict[BoxId, Folder] = field(default_factory=dict, repr=False, compare=False)

    def __iter__(self) -> Iterator[Folder]:
        return iter(self.folders)

    def __len__(self) -> int:
        return len(self.folders)

    def by_name(self, name: str) -> Folder | None:
        """The folder of this name; ``INBOX`` in any case."""
        return self._names.get(spelled(name))

    def by_id(self, box_id: BoxId) -> Folder | None:
        """The folder with this id."""
        return self._ids.get(box_id)

    def by_special_use(self, special_use: SpecialUse) -> Folder | None:
        """The folder with this attribute."""
        return next((folder for folder in self.folders if folder.special_use == special_use), None)


def spelled(name: str) -> str:
    """The name as stored: NFC, and INBOX (also as the first level) in capitals."""
    name = unicodedata.normalize("NFC", name)
    first, slash, rest = name.partition("/")
    return INBOX + slash + rest if first.upper() == INBOX else name


def checked_name(name: str) -> str:
    """The name as stored, if a folder may be called so. Raises `FolderNameInvalid`.

    At most 1,000 octets of UTF-8 and 32 levels; no empty level, no control characters, no ``*`` or ``%`` (which
    LIST could never name).
    """
    name = spelled(name)
    levels = name.split("/")
    if len(levels) > MAX_LEVELS or not all(levels) or len(name.encode("utf-8", "replace")) > MAX_NAME_OCTETS:
        raise FolderNameInvalid
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in "*%" for c in name):
        raise FolderNameInvalid
    return name


def table_of(rows: FolderRows) -> FolderTable:
    """What callers see of a stored table."""
    subscribed = frozenset(rows.subscriptions)
    parents = {row.name.rpartition("/")[0] for row in rows.folders}
    folders = tuple(
        Folder(
            row.name,
            BoxId(row.box_id),
            SpecialUse(row.special_use) if 0 < row.special_use < FIRST_SERVICE else None,
            row.name in subscribed,
            row.name in parents,
            ServiceFolder(row.special_use) if row.special_use >= FIRST_SERVICE else None,
        )
        for row in sorted(rows.folders, key=lambda row: (row.name != INBOX, row.name))
    )
    names = {folder.name: folder for folder in folders}
    ids = {folder.box_id: folder for folder in folders}
    return FolderTable(rows.version, folders, rows.keywords, subscribed, names, ids)


def read_user_head(txn: ReadTxn, shelf: Shelf) -> UserHead:
    """The user's head. Raises `Damaged` when it is absent or does not open."""
    value = txn.get(Table.UHEAD, shelf.user_id)
    if value is None:
        raise Damaged("no user head")
    try:
        return decode_user_head(shelf.keys.open_names(Record.USER_HEAD, b"", value))
    except SealBroken as broken:
        raise Damaged("user head") from broken


def write_user_head(txn: WriteTxn, shelf: Shelf, head: UserHead) -> None:
    """Replace the user's head."""
    txn.put(Table.UHEAD, shelf.user_id, shelf.keys.seal_names(Record.USER_HEAD, b"", encode_user_head(head)))


def read_rows(txn: ReadTxn, shelf: Shelf) -> FolderRows:
    """The stored table. Raises `Damaged`, also when it is not the version that the user head names."""
    value = txn.get(Table.FOLDERS, shelf.user_id)
    if value is None:
        raise Damaged("no folder table")
    try:
        rows = decode_folders(shelf.keys.open_names(Record.FOLDERS, b"", value))
    except SealBroken as broken:
        raise Damaged("folder table") from broken
    if rows.version != read_user_head(txn, shelf).table_version:
        raise Damaged("folder table is an old one")
    return rows


def write_rows(txn: WriteTxn, shelf: Shelf, rows: FolderRows) -> FolderRows:
    """Store a changed table under the next version, and announce it."""
    head = read_user_head(txn, shelf)
    rows = replace(rows, version=head.table_version + 1)
    txn.put(Table.FOLDERS, shelf.user_id, shelf.keys.seal_names(Record.FOLDERS, b"", encode_folders(rows)))
    write_user_head(txn, shelf, replace(head, table_version=rows.version))
    txn.announce(Change(ChangeKind.FOLDERS, shelf.user_id))
    return rows


def new_account_rows(
    keys: KeyRing, now: int, *, uid_validity: int = 1, new_id: Callable[[], bytes] = lambda: os.urandom(16)
) -> list[tuple[Table, bytes, bytes]]:
    """The rows (table, key, value) of a new account's folders: INBOX and the special ones, all subscribed.

    ``uid_validity`` is the least UIDVALIDITY they may get (one more than the last used for the address); the larger of
    it and ``now`` (seconds since 1970) counts.
    """
    first = max(now, uid_validity)
    special = [(INBOX, 0), *((name, int(use)) for name, use in SPECIAL_FOLDERS)]
    folders = tuple(FolderRow(name, new_id(), use) for name, use in special)
    rows = FolderRows(1, first + len(folders) - 1, folders, (), tuple(folder.name for folder in folders))
    user_id = keys.user_id
    stored = [
        (Table.UHEAD, user_id, keys.seal_names(Record.USER_HEAD, b"", encode_user_head(UserHead()))),
        (Table.FOLDERS, user_id, keys.seal_names(Record.FOLDERS, b"", encode_folders(rows))),
    ]
    for n, folder in enumerate(folders):
        head = keys.seal_names(Record.HEAD, folder.box_id, encode_head(Head(first + n)))
        stored.append((Table.HEAD, head_key(user_id, folder.box_id), head))
    return stored


def create(
    txn: WriteTxn, shelf: Shelf, name: str, special_use: SpecialUse | None, now: int, box_ids: Iterable[bytes]
) -> BoxId:
    """Make a folder and its missing parents; its id. ``box_ids`` gives fresh ids, one a level."""
    rows = read_rows(txn, shelf)
    name = checked_name(name)
    names = {row.name for row in rows.folders}
    if name in names:
        raise FolderExists
    levels = name.split("/")
    wanted = ["/".join(levels[: n + 1]) for n in range(len(levels))]
    missing = [path for path in wanted if path not in names]
    if len(names) + len(missing) > MAX_FOLDERS:
        raise LimitReached
    folders = list(rows.folders)
    if special_use is not None:
        folders = [replace(row, special_use=0) if row.special_use == special_use else row for row in folders]
    ids = iter(box_ids)
    validity = max(now, rows.last_uid_validity + 1)
    for path in missing:
        row = FolderRow(path, next(ids), int(special_use or 0) if path == name else 0)
        folders.append(row)
        write_head(txn, shelf, row.box_id, Head(validity))
        validity += 1
    write_rows(txn, shelf, replace(rows, folders=tuple(folders), last_uid_validity=validity - 1))
    return BoxId(folders[-1].box_id)


def ensure_service(txn: WriteTxn, shelf: Shelf, service: ServiceFolder, now: int, box_id: bytes) -> BoxId:
    """The server's own folder of this kind, made and subscribed if it is missing; ``box_id`` is for a new one.

    A folder of its name that the user made himself becomes it.
    """
    rows = read_rows(txn, shelf)
    found = next((row for row in rows.folders if row.special_use == service), None)
    if found is not None:
        return BoxId(found.box_id)
    name = SERVICE_NAMES[service]
    same = next((row for row in rows.folders if row.name == name), None)
    if same is not None:
        folders = tuple(replace(row, special_use=int(service)) if row is same else row for row in rows.folders)
        write_rows(txn, shelf, replace(rows, folders=folders))
        return BoxId(same.box_id)
    validity = max(now, rows.last_uid_validity + 1)
    made = FolderRow(name, box_id, int(service))
    write_head(txn, shelf, made.box_id, Head(validity))
    subscriptions = tuple(dict.fromkeys((*rows.subscriptions, name)))
    write_rows(
        txn,
        shelf,
        replace(rows, folders=(*rows.folders, made), subscriptions=subscriptions, last_uid_validity=validity),
    )
    return BoxId(box_id)


def delete(txn: WriteTxn, shelf: Shelf, name: str, kept: Container[int] = ()) -> None:
    """Take an empty folder out of the table, with its head and its expunge log; its text column is marked to go."""
    rows = read_rows(txn, shelf)
    row = deletable(rows, name, kept)
    write_rows(txn, shelf, replace(rows, folders=tuple(other for other in rows.folders if other is not row)))
    mark_all(txn, shelf.user_id, row.box_id)
    prefix = shelf.user_id + row.box_id
    txn.delete(Table.HEAD, prefix)
    for table in (Table.GONE, Table.PAGE, Table.READY):
        for key in [key for key, _ in txn.scan(table, prefix, prefix + b"\xff" * 13)]:
            txn.delete(table, key)
    txn.announce(Change(ChangeKind.FOLDER, shelf.user_id, BoxId(row.box_id)))


def deletable(rows: FolderRows, name: str, kept: Container[int] = ()) -> FolderRow:
    """The folder's row, if it may be deleted. Raises `FolderMissing`, `HasChildren`, `FolderProtected`.

    ``kept``: special uses of folders that stay.
    """
    row = row_named(rows, name)
    if row.special_use in kept:
        raise ServerKeepsFolder
    if row.name == INBOX:
        raise FolderProtected
    if any(other.name.startswith(row.name + "/") for other in rows.folders):
        raise HasChildren
    return row


def row_named(rows: FolderRows, name: str) -> FolderRow:
    """The row of this name. Raises `FolderMissing`."""
    wanted = spelled(name)
    for row in rows.folders:
        if row.name == wanted:
            return row
    raise FolderMissing


def rename(
    txn: WriteTxn,
    shelf: Shelf,
    old: str,
    new: str,
    now: int,
    box_ids: Iterable[bytes],
    kept: Container[int] = (),
) -> None:
    """Rename a folder (not INBOX) with all below it and their subscriptions; makes the new name's missing parents.

    ``kept``: special uses of folders that stay as they are.
    """
    old, new = spelled(old), checked_name(new)
    rows = read_rows(txn, shelf)
    if row_named(rows, old).special_use in kept:
        raise ServerKeepsFolder
    if old == INBOX or new.startswith(old + "/"):
        raise FolderProtected
    if any(row.name == new for row in rows.folders):
        raise FolderExists
    parent = new.rpartition("/")[0]
    if parent and not any(row.name == parent for row in rows.folders):
        create(txn, shelf, parent, None, now, box_ids)
        rows = read_rows(txn, shelf)

    def moved(name: str) -> str:
        return new + name[len(old) :] if name == old or name.startswith(old + "/") else name

    folders = tuple(replace(row, name=moved(row.name)) for row in rows.folders)
    for row in folders:
        checked_name(row.name)
    if len({row.name for row in folders}) != len(folders):
        raise FolderExists
    subscriptions = tuple(dict.fromkeys(moved(name) for name in rows.subscriptions))
    write_rows(txn, shelf, replace(rows, folders=folders, subscriptions=subscriptions))


def set_subscribed(txn: WriteTxn, shelf: Shelf, name: str, subscribed: bool) -> None:
    """Subscribe to a folder that exists, or unsubscribe from any name."""
    rows = read_rows(txn, shelf)
    name = spelled(name)
    names = dict.fromkeys(rows.subscriptions)
    if (name in names) == subscribed:
        if subscribed:
            row_named(rows, name)
        return
    if subscribed:
        row_named(rows, name)
        if len(names) >= 2 * MAX_FOLDERS:
            raise LimitReached
        names[name] = None
    else:
        del names[name]
    write_rows(txn, shelf, replace(rows, subscriptions=tuple(names)))


def keyword_bits(keywords: tuple[str, ...], names: Iterable[str]) -> tuple[int, list[str]]:
    """The bits of these names, and the names that have none yet (each once, compared without case)."""
    known = {keyword.casefold(): bit for bit, keyword in enumerate(keywords)}
    bits = 0
    missing: dict[str, str] = {}
    for name in names:
        bit = known.get(name.casefold())
        if bit is None:
            missing.setdefault(name.casefold(), name)
        else:
            bits |= 1 << bit
    return bits, list(missing.values())


def add_keywords(txn: WriteTxn, shelf: Shelf, names: Iterable[str]) -> tuple[str, ...]:
    """Give bits to these names; all keywords. Raises `LimitReached` beyond 64."""
    rows = read_rows(txn, shelf)
    _, missing = keyword_bits(rows.keywords, sorted(names))
    if not missing:
        return rows.keywords
    keywords = rows.keywords + tuple(missing)
    if len(keywords) > MAX_KEYWORDS or any(len(name.encode()) > MAX_KEYWORD_OCTETS for name in missing):
        raise LimitReached
    return write_rows(txn, shelf, replace(rows, keywords=keywords)).keywords
