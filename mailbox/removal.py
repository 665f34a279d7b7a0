"""Taking a user's rows out of the store in slices, so that neither a commit nor the writer's queue grows long."""

from collections.abc import Callable

from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.account_rows import open_row
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.interfaces import Engine, ReadTxn, WriteTxn
from certmaild.mailbox.layout import Table, decode_own
from certmaild.mailbox.ownership import drop_reference

SLICE_ROWS = 256
KEY_TABLES = (Table.CRED, Table.BEQUEST, Table.SEEN, Table.EPOCH, Table.IDENT, Table.PK)
"""Removed first: without these nothing of the user can be opened again."""
_ROW_TABLES = (
    Table.CLIENT,
    Table.HEARD,
    Table.SERVICE,
    Table.CARD,
    Table.PAGE,
    Table.GONE,
    Table.READY,
    Table.TEXT,
    Table.IN,
    Table.HEAD,
)
_LAST_TABLES = (Table.FOLDERS, Table.UHEAD, Table.TAIL, Table.USE, Table.DAILY, Table.GUEST, Table.ACCT)


def end_of(user_id: UserId) -> bytes:
    """The least key above all of this user's."""
    return (int.from_bytes(user_id, "big") + 1).to_bytes(17, "big")[1:] if user_id != b"\xff" * 16 else b"\xff" * 64


def delete_rows(txn: WriteTxn, table: Table, user_id: UserId, limit: int = 1 << 30) -> int:
    """Delete up to ``limit`` of the user's rows in one table; how many."""
    keys: list[bytes] = []
    for key, _ in txn.scan(table, user_id, end_of(user_id)):
        if len(keys) == limit:
            break
        keys.append(key)
    for key in keys:
        txn.delete(table, key)
    return len(keys)


def release_rows(txn: WriteTxn, secrets: ServerSecrets, user_id: UserId, now: int) -> int:
    """Release up to a slice of the user's messages, whatever shows them; how many. Their blobs lose a reference."""
    released: list[tuple[bytes, bytes]] = []
    for key, value in txn.scan(Table.OWN, user_id, end_of(user_id)):
        if len(released) == SLICE_ROWS:
            break
        released.append((key, value))
    for key, value in released:
        own = decode_own(open_row(secrets, Table.OWN, key, value))
        txn.delete(Table.OWN, key)
        txn.delete(Table.CARD, key)
        drop_reference(txn, own.blob_id, now)
    return len(released)


async def remove_user(engine: Engine, secrets: ServerSecrets, user_id: UserId, now: Callable[[], int]) -> int:
    """Remove every row of a user who has no address any more; how many messages. May be run again after a crash."""
    messages = 0
    while count := await engine.write(lambda txn: release_rows(txn, secrets, user_id, now())):
        messages += count
    for table in _ROW_TABLES:
        while await engine.write(lambda txn, table=table: delete_rows(txn, table, user_id, SLICE_ROWS)):  # type: ignore[misc]
            pass

    def finish(txn: WriteTxn) -> None:
        for table in (*KEY_TABLES, *_LAST_TABLES):
            delete_rows(txn, table, user_id)

    await engine.write(finish)
    return messages


async def remove_orphans(engine: Engine, secrets: ServerSecrets, now: Callable[[], int]) -> int:
    """Remove what deliveries under way filed for users who were removed meanwhile; how many users. Run it at start."""

    def work(txn: ReadTxn) -> list[UserId]:
        return [UserId(key) for key, _ in txn.scan(Table.TAIL, b"") if txn.get(Table.ACCT, key) is None]

    orphans = await engine.scan(work)
    for user_id in orphans:
        await remove_user(engine, secrets, user_id, now)
    return len(orphans)
