"""One user's mailbox for tests: real keys and seals on an engine of choice."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import memory_engine, run

from certmaild.keystore.sealing import check_public_key
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.keystore.users import KeyRing, NewUser, create_user_keys
from certmaild.mailbox.arrivals import Recipient, seal_for, write_arrivals
from certmaild.mailbox.blobs import BlobWriter
from certmaild.mailbox.cards import encode_card, facts_of
from certmaild.mailbox.folders import new_account_rows
from certmaild.mailbox.identifiers import BoxId, UserId
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import Account, Role, SentCopies, State, encode_account
from certmaild.mailbox.mime import Scanner
from certmaild.mailbox.opened import OpenMailbox
from certmaild.mailbox.pool import MailboxPool
from certmaild.mailbox.values import EntryBlock, Flags, NewMessage, UidSet

NOW = 1_750_000_000
ADDRESS = "joe@example.com"
ALL = (range(1, 1 << 32),)
NO_FLAGS = Flags()
PREFIX = b"Return-Path: <ann@example.org>\r\nDelivered-To: joe@example.com\r\n"


def mail(subject: str = "hello", body: str = "body") -> bytes:
    return f"From: ann@example.org\r\nTo: {ADDRESS}\r\nSubject: {subject}\r\n\r\n{body}\r\n".encode()


@dataclass
class House:
    """Secrets, one user and his open mailbox."""

    engine: Any
    secrets: ServerSecrets
    user: NewUser
    keys: KeyRing
    pool: MailboxPool
    mailbox: OpenMailbox
    now: list[float] = field(default_factory=lambda: [float(NOW)])

    @property
    def user_id(self) -> UserId:
        return UserId(self.keys.user_id)

    def box(self, name: str = "INBOX") -> BoxId:
        folder = run(self.mailbox.folders()).by_name(name)
        assert folder is not None
        return folder.box_id

    def append(self, *messages: bytes, box: str = "INBOX", flags: Flags = NO_FLAGS) -> tuple[int, ...]:
        async def work() -> tuple[int, ...]:
            news = []
            for octets in messages:
                writer = self.mailbox.new_message_writer()
                await writer.write(octets)
                blob, scan = await writer.finish()
                news.append(NewMessage(blob, scan, flags))
            return (await self.mailbox.append(self.box(box), news)).uids

        return run(work())

    def deliver(self, *messages: bytes, special_use: int = 0, flags: int = 0) -> list[bytes]:
        """Deposit as SMTP does; the mids."""
        key = check_public_key(self.secrets, self.user_id, self.user.public_key_row)
        mids = []
        for octets in messages:
            writer = BlobWriter(self.engine, lambda: NOW)
            assert writer.write(octets) is None
            blob = run(writer.finish())
            scanner = Scanner()
            scanner.feed(octets)
            facts = facts_of(scanner.finish())
            blob = blob.with_facts(facts.frame)
            card = encode_card(
                blob, facts, internal_date=NOW, prefix=PREFIX, special_use=special_use, flags=flags, reverse_path=b"a@b"
            )
            arrival = seal_for(Recipient(self.user_id, key, card, blob.size + len(PREFIX)))
            mids.append(bytes(arrival.mid))
            run(
                self.engine.write(
                    lambda txn, blob=blob, arrival=arrival: write_arrivals(txn, self.secrets, blob, [arrival])
                )
            )
        return mids

    def blocks(self, box: str | BoxId = "INBOX", uids: UidSet = ALL, **more: Any) -> list[EntryBlock]:
        async def work() -> list[EntryBlock]:
            box_id = self.box(box) if isinstance(box, str) else box
            return [block async for block in self.mailbox.entries(box_id, uids, **more)]

        return run(work())

    def entries(self, box: str | BoxId = "INBOX", uids: UidSet = ALL, **more: Any) -> list[Any]:
        return [entry for block in self.blocks(box, uids, **more) for entry in block]

    def rows(self, tables: Iterable[Table] = tuple(Table)) -> dict[tuple[Table, bytes], bytes]:
        def work(txn: Any) -> dict[tuple[Table, bytes], bytes]:
            return {(table, key): value for table in tables for key, value in txn.scan(table, b"")}

        return run(self.engine.read(work))

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        run(self.engine.write(lambda txn: txn.put(table, key, value)))

    def reopen(self) -> None:
        """A new pool and mailbox on the same store: nothing cached."""
        self.mailbox.close()
        self.pool = MailboxPool(self.engine, self.secrets, self.engine.hub, lambda: self.now[0])
        self.mailbox = self.pool.open(self.user_id, ADDRESS, self.keys)


def account_rows(
    secrets: ServerSecrets, user: NewUser, keys: KeyRing, octets: int | None = None, messages: int | None = None
) -> list[tuple[Table, bytes, bytes]]:
    user_id = UserId(user.user_id)
    account = Account(State.ACTIVE, Role.MEMBER, SentCopies.CLIENT, octets, messages, 0, NOW, ADDRESS, ADDRESS)
    acct = secrets.seal_row(Table.ACCT, user_id, encode_account(account))
    return [(Table.ACCT, user_id, acct), *new_account_rows(keys, NOW)]


def make_house(
    directory: Path,
    engine: Any = None,
    *,
    secrets: ServerSecrets | None = None,
    octets: int | None = None,
    messages: int | None = None,
) -> House:
    """A new user in ``engine`` (default: memory)."""
    engine = engine or memory_engine()
    secrets = secrets or ServerSecrets.create(directory / "secrets")
    user = create_user_keys(secrets)
    keys = user.keys
    rows = account_rows(secrets, user, keys, octets, messages)

    def work(txn: Any) -> None:
        for table, key, value in rows:
            txn.put(table, key, value)

    run(engine.write(work))
    now = [float(NOW)]
    pool = MailboxPool(engine, secrets, engine.hub, lambda: now[0])
    return House(engine, secrets, user, keys, pool, pool.open(UserId(user.user_id), ADDRESS, keys), now)
