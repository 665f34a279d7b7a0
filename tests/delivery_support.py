"""A store with users, and delivery into it: what each can open afterwards, what waits in the queue, what is refused."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from support import run
from twisted.internet.task import Clock

from certmaild.config import default
from certmaild.config_values import Invites
from certmaild.correspondence import Correspondence
from certmaild.delivery import Delivery
from certmaild.filing import DeliverySettings
from certmaild.guests.code_command import CodeCommand
from certmaild.guests.decision import Decisions
from certmaild.guests.invitations import Invitations
from certmaild.guests.pickup import PickupLetters
from certmaild.guests.proof import Proofs
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.keystore.users import NewUser, create_user_keys
from certmaild.mailbox.account_rows import write_account
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.blobs import read_frames
from certmaild.mailbox.cards import Card
from certmaild.mailbox.engine_memory import MemoryEngine
from certmaild.mailbox.identifiers import CredentialId, QueueId, UserId
from certmaild.mailbox.interfaces import ReadTxn, WriteTxn
from certmaild.mailbox.layout import Arrival, Table, decode_arrival_key, decode_count, decode_in_row
from certmaild.mailbox.layout_accounts import Account, Role, SentCopies, State, encode_alias, encode_owner
from certmaild.mailbox.layout_queue import Message, Task, TaskState
from certmaild.mailbox.queue import Queue
from certmaild.outbound.spool import content_of, decode, decode_place, recipient_of
from certmaild.outbound.values import Destination, Envelope, Problem, SelfProof
from certmaild.outbound.values import Recipient as OutsideRecipient
from certmaild.partners.book import PartnerBook
from certmaild.protocols.interfaces import Login
from certmaild.protocols.limits import Limits
from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.grammar import Path as SmtpPath
from certmaild.protocols.smtp.interfaces import Hop, Listener, TlsFacts
from certmaild.protocols.smtp.parameters import MailArguments, RcptArguments

NOW = 1_790_000_000.0
TLS = TlsFacts("TLSv1.3", "AES")
BOB = SmtpPath("bob", "partner.example")
CONTENT = b"From: Bob <bob@partner.example>\r\nReturn-Path: <forged@x.example>\r\nSubject: hi\r\n\r\nHello.\r\n"


@dataclass
class Arrived:
    """One message as its recipient opens it."""

    card: Card
    content: bytes

    @property
    def prefix(self) -> bytes:
        return self.card.prefix


@dataclass
class Queued:
    """One message on its way out."""

    queue_id: str
    envelope: Envelope
    sender: UserId | None
    recipients: list[tuple[OutsideRecipient, Destination, TaskState]]
    content: bytes


@dataclass
class House:
    """A store with ann, bob (server keeps Sent) and carl (disabled), and delivery into it."""

    engine: MemoryEngine
    secrets: ServerSecrets
    limits: Limits = field(default_factory=Limits)
    partners: PartnerBook | None = None
    """With it mail goes outside too."""
    data: str = "/nonexistent"
    """Where keys for signatures would be."""
    invites: Invites = field(default_factory=Invites)
    proofs: dict[str, SelfProof | Problem] = field(default_factory=dict)
    """How domains prove themselves; others do not."""
    asked: list[str] = field(default_factory=list)
    """Domains that were asked for."""
    seconds: float = NOW
    users: dict[str, NewUser] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config = replace(
            default(self.data),
            hostname="mx.example.com",
            domains=("example.com", "example.org"),
            limits=self.limits,
            invite=self.invites,
        )
        self.correspondence = Correspondence(
            self.engine, self.secrets, config, partners=self.partners, seconds=lambda: self.seconds
        )
        clock = Clock()
        self.delivery = Delivery(
            self.engine,
            self.secrets,
            self.correspondence.directory,
            self.correspondence.router,
            DeliverySettings("mx.example.com", self.limits),
            seconds=lambda: self.seconds,
            in_thread=self.in_thread,
            spool=self.correspondence.spool,
            reporter=self.correspondence.reporter,
            signer=lambda: self.correspondence.signer,
            decisions=Decisions(lambda: self.invites, Proofs(lambda: self, clock), lambda: 20.0),
            invitations=Invitations(
                self.engine,
                self.secrets,
                lambda: self.invites,
                PickupLetters(
                    self.engine,
                    self.secrets,
                    self.correspondence.mail,
                    CodeCommand(lambda: self.invites.code_command, self.in_thread),
                    clock.callLater,
                ),
                self.correspondence.notices,
                seconds=lambda: self.seconds,
                in_thread=self.in_thread,
            ),
        )

    async def proves_itself(self, domain: str) -> SelfProof | Problem:
        self.asked.append(domain)
        return self.proofs.get(domain, SelfProof(False, f"{domain} proves itself neither by DANE nor by MTA-STS"))

    async def in_thread(self, work):  # type: ignore[no-untyped-def]
        return work()

    def add(self, name: str, *, octets_limit: int | None = None, **changes: object) -> NewUser:
        user = create_user_keys(self.secrets)
        address = canonical(f"{name}@example.com")
        account = replace(
            Account(
                State.ACTIVE,
                Role.MEMBER,
                SentCopies.CLIENT,
                octets_limit,
                None,
                1,
                len(self.users),
                address.lookup,
                address.display,
            ),
            **changes,  # type: ignore[arg-type]
        )

        def work(txn: WriteTxn) -> None:
            txn.put(Table.ADDR, address.key, encode_owner(UserId(user.user_id)))
            write_account(txn, self.secrets, UserId(user.user_id), account)
            txn.put(Table.PK, user.user_id, user.public_key_row)

        run(self.engine.write(work))
        self.users[name] = user
        return user

    def alias(self, name: str, target: str) -> None:
        run(
            self.engine.write(
                lambda txn: txn.put(Table.ADDR, f"{name}@example.com".encode(), encode_alias(f"{target}@example.com"))
            )
        )

    def login(self, name: str) -> Login:
        user = self.users[name]
        return Login(UserId(user.user_id), f"{name}@example.com", CredentialId(1), False, user.keys)

    def hop(self, sender: str | None = None) -> Hop:
        login = None if sender is None else self.login(sender)
        listener = Listener.INBOUND if login is None else Listener.SUBMISSION
        return Hop("s1", listener, "192.0.2.7", "client.example", True, TLS, login)

    def send(
        self,
        *to: str,
        sender: str | None = None,
        content: bytes = CONTENT,
        mail: MailArguments | None = None,
        cut: int = 0,
        **rcpt: Any,
    ) -> str:
        """Carry one message through; the queue id."""

        async def work() -> str:
            own = SmtpPath(sender, "example.com") if sender else BOB
            transaction = await self.delivery.begin(self.hop(sender), mail or MailArguments(own))
            try:
                for name in to:
                    local, _, domain = name.partition("@")
                    await transaction.add_recipient(RcptArguments(SmtpPath(local, domain or "example.com"), **rcpt))
                for at in range(0, len(content), cut or len(content)):
                    pause = transaction.write(content[at : at + (cut or len(content))])
                    if pause is not None:
                        await pause
                return await transaction.finish()
            finally:
                transaction.abort()

        return run(work())

    def refusal(self, *to: str, **how: object) -> str:
        with pytest.raises(Refusal) as caught:
            self.send(*to, **how)  # type: ignore[arg-type]
        assert self.delivery.unfinished.total == 0
        return f"{caught.value.code} {caught.value.enhanced}"

    def mail_of(self, name: str) -> list[Arrived]:
        user = self.users[name]
        rows = run(self.engine.read(lambda txn: list(txn.scan(Table.IN, user.user_id, user.user_id + b"\xff" * 8))))
        arrived = []
        for key, value in rows:
            assert decode_arrival_key(key)[0] == user.user_id
            row = decode_in_row(value)
            if row.kind is not Arrival.MESSAGE:
                continue
            card = Card(row.mid, user.keys.open_arrival(row.kid, row.info(user.user_id), row.sealed))

            async def read(card: Card = card) -> bytes:
                return b"".join([frame async for frame in read_frames(self.engine, card.blob)])

            arrived.append(Arrived(card, run(read())))
        return arrived

    def queued(self) -> list["Queued"]:
        """What waits to go out, oldest first."""
        spool = self.correspondence.spool
        ids = run(self.engine.read(lambda txn: [QueueId(key) for key, _ in txn.scan(Table.QMSG, b"")]))
        return [self._queued(spool.queue, queue_id) for queue_id in ids]

    def _queued(self, queue: Queue, queue_id: QueueId) -> "Queued":
        def read(txn: ReadTxn) -> tuple[Message, list[Task]]:
            message = queue.message(txn, queue_id)
            assert message is not None
            return message, [task for _, task in queue.tasks(txn, queue_id)]

        message, tasks = run(self.engine.read(read))

        async def content() -> bytes:
            return b"".join([piece async for piece in content_of(self.engine, message)])

        return Queued(
            queue_id.hex(),
            decode(Envelope, message.envelope),
            message.sender,
            [(recipient_of(task), decode_place(task.place).destination, task.state) for task in tasks],
            run(content()),
        )

    def references(self) -> list[int]:
        """How often each blob is referred to."""
        rows = run(self.engine.read(lambda txn: list(txn.scan(Table.REF, b""))))
        return [decode_count(value) for _, value in rows]

    def blobs(self) -> int:
        return len(run(self.engine.read(lambda txn: list(txn.scan(Table.REF, b"")))))
