"""An IMAP house for tests: the real server and mailbox on the memory engine, a clock, no sockets."""

from pathlib import Path
from typing import Any

from line_support import PASSWORD, Door, Gate, Line
from mailbox_support import ADDRESS
from support import WorkingClock, memory_engine, run

from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.keystore.users import create_user_keys
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.engine_memory import MemoryEngine
from certmaild.mailbox.folders import new_account_rows
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import Account, Role, SentCopies, State, encode_account
from certmaild.mailbox.pool import MailboxPool
from certmaild.mailbox.values import Flags, NewMessage
from certmaild.protocols.imap.server import ImapFactory
from certmaild.protocols.interfaces import Service
from certmaild.protocols.limits import Limits

NOW = 1_750_000_000
MAIL = b"From: ann@example.org\r\nTo: joe@example.com\r\nSubject: hello\r\n\r\nbody\r\n"


def make_secrets(directory: Path) -> ServerSecrets:
    return ServerSecrets.create(directory / "secrets")


class House:
    """Everything behind the listener."""

    def __init__(self, directory: Path, limits: Limits = Limits()) -> None:  # noqa: B008
        self.clock = WorkingClock()
        self.engine: MemoryEngine = memory_engine()
        secrets = self.secrets = make_secrets(directory)
        keys = create_user_keys(secrets).keys
        rows = new_account_rows(keys, NOW)

        def fill(txn: Any) -> None:
            for table, key, value in rows:
                txn.put(table, key, value)

        run(self.engine.write(fill))
        self.pool = MailboxPool(self.engine, secrets, self.engine.hub, lambda: NOW + self.clock.seconds())
        self.gate = Gate(Service.IMAP, lambda: self.pool, keys)
        self.door = Door()
        self.factory = ImapFactory(self.gate, self.door, limits, self.clock)
        self.user_id = UserId(keys.user_id)
        self.mailbox = self.pool.open(self.user_id, ADDRESS, keys)

    def connect(self) -> Line:
        return Line(self.factory.buildProtocol(None))

    def log_in(self) -> Line:
        line = self.connect()
        line.take()
        answer = line.send(b"l LOGIN %s %s\r\n" % (ADDRESS.encode(), PASSWORD.encode()))
        assert answer.startswith(b"l OK [CAPABILITY "), answer
        return line

    def select(self, name: bytes = b"INBOX") -> Line:
        line = self.log_in()
        answer = line.send(b"s SELECT " + name + b"\r\n")
        assert b"s OK [READ-WRITE]" in answer, answer
        return line

    def deliver(self, *contents: bytes, folder: str = "INBOX", flags: Flags = Flags()) -> None:  # noqa: B008
        """Put messages into a folder, as somebody else would."""

        async def work() -> None:
            found = (await self.mailbox.folders()).by_name(folder)
            assert found is not None
            for content in contents:
                writer = self.mailbox.new_message_writer()
                await writer.write(content)
                blob, scan = await writer.finish()
                await self.mailbox.append(found.box_id, [NewMessage(blob, scan, flags)])

        run(work())

    def limit(self, octets: int | None, messages: int | None) -> None:
        """Give the account a quota."""
        account = Account(State(1), Role(1), SentCopies(1), octets, messages, NOW, NOW, ADDRESS, ADDRESS)
        sealed = self.secrets.seal_row(Table.ACCT, self.user_id, encode_account(account))
        run(self.engine.write(lambda txn: txn.put(Table.ACCT, self.user_id, sealed)))

    def announce(self, kind: ChangeKind) -> None:
        self.engine.hub.deliver([Change(kind, self.user_id)])
