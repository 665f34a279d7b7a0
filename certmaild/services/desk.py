"""The desk: takes what authenticated users write to service addresses, has it answered into their sealed INBOX.

Content is looked at in memory and never stored. Mail from other servers never comes here (`certmaild.routing`).
"""

from collections.abc import Callable, Mapping
from email.message import EmailMessage

from twisted.logger import Logger

from certmaild.filing import InThread
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.keystore.users import KeyRing
from certmaild.mailbox import daily_counts
from certmaild.mailbox.account_rows import read_account, read_credential
from certmaild.mailbox.identifiers import Mid, UserId
from certmaild.mailbox.interfaces import Engine, ReadTxn, WriteTxn
from certmaild.mailbox.layout_accounts import MAIL_SCOPES, Kind, Role, Scope
from certmaild.mailbox.layout_guests import Counted
from certmaild.protocols.interfaces import Login
from certmaild.protocols.limits import Limits
from certmaild.protocols.smtp.errors import Refusal
from certmaild.reports.service_mail import ServiceMail
from certmaild.routing import Service
from certmaild.services import texts
from certmaild.services.interfaces import Answer, Clerk, Request
from certmaild.services.letters import Letter, NotObeyed, read_letter

log = Logger()

MOST_OCTETS = 64 * 1024
"""Of a message to a service address."""
NOT_FOR_THIS_LOGIN = Refusal(
    550, "5.7.1", "Commands are taken from people who logged in with a password of their own, not from this log-in"
)
ALONE = Refusal(452, "4.5.3", "A service address takes a message of its own: write to it, and to nobody else")
TOO_LONG = Refusal(552, "5.3.4", "A message to a service address has at most 64 KiB")
TOO_OFTEN = "Service addresses answer you {most} times an hour; please ask again in the next"
AUTOMATIC = Refusal(550, "5.7.1", "Service addresses do not take automatic messages")


class Desk:
    """Hands requests to the clerks. ``clerks``: by local part; an address without one is answered with help.

    ``stirred`` is told whose devices may be others now.
    """

    def __init__(
        self,
        engine: Engine,
        secrets: ServerSecrets,
        mail: ServiceMail,
        in_thread: InThread,
        clerks: Mapping[str, Clerk],
        stirred: Callable[[UserId, KeyRing], None] = lambda user_id, keys: None,
        *,
        limits: Callable[[], Limits],
        seconds: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._secrets = secrets
        self._mail = mail
        self._in_thread = in_thread
        self._clerks = clerks
        self._stirred = stirred
        self._limits = limits
        self._seconds = seconds

    async def check(self, login: Login) -> None:
        """Whether this log-in may command, at RCPT. Raises `Refusal`.

        Not programs, codes of the first session or of recovery, and passwords that do not open the whole mailbox.
        """
        secrets = self._secrets

        def work(txn: ReadTxn) -> tuple[Role | None, Scope]:
            account = read_account(txn, secrets, login.user_id)
            row = read_credential(txn, login.user_id, login.credential_id)
            return None if account is None else account.role, Scope(0) if row is None else row.head.scopes

        role, scopes = await self._engine.read(work)
        if role in (None, Role.APP) or MAIL_SCOPES & ~scopes or login.kind not in (Kind.PASSWORD, Kind.DEVICE):
            raise NOT_FOR_THIS_LOGIN

    async def take(self, login: Login, service: Service, content: bytes) -> None:
        """Have a message answered; when this returns the answer is durable. Raises `Refusal`, `StoreUnavailable`."""
        await self._engine.read(lambda txn: self._check_count(txn, login.user_id))
        try:
            letter = await self._in_thread(lambda: read_letter(content))
        except NotObeyed:
            raise AUTOMATIC from None
        request = Request(
            login,
            service.name,
            service.address.domain,
            service.tag,
            letter.subject,
            letter.text,
            letter.message_id,
            letter.in_reply_to,
            letter.is_answer,
            letter.queue_ids,
        )
        clerk = self._clerks.get(service.name)
        answer = None if clerk is None else await clerk.answer(request)
        if answer is None:
            answer = texts.not_understood(request)
        answer = answer if isinstance(answer, Answer) else Answer(answer, _nothing)
        placed = await self._mail.place(_threaded(answer.letter, request, letter), login.user_id)
        also = answer.also

        def work(txn: WriteTxn) -> None:
            now = self._check_count(txn, login.user_id)
            daily_counts.note(txn, self._secrets, login.user_id, Counted.REQUESTED, now, 1)
            placed.file(txn)
            also(txn, placed.mid)

        await self._engine.write(work, holding=login.keys, grows=True)
        self._stirred(login.user_id, login.keys)
        log.info("{service}@ was asked by {user}", service=service.name, user=login.user_id.hex())

    def _check_count(self, txn: ReadTxn, user_id: UserId) -> int:
        """The time, if he may still ask within this hour."""
        now, most = int(self._seconds()), self._limits().service_requests
        if daily_counts.count_in_hour(txn, self._secrets, user_id, Counted.REQUESTED, now) >= most:
            raise Refusal(450, "4.7.1", TOO_OFTEN.format(most=most))
        return now


def _nothing(_txn: WriteTxn, _mid: Mid) -> None:
    """What goes with most answers."""


def _threaded(answer: EmailMessage, request: Request, letter: Letter) -> EmailMessage:
    """The answer with what makes it one: from the address written to, in the thread."""
    missing = {"From": f"certmaild <{request.service}@{request.domain}>", "Subject": f"Re: {letter.subject}"}
    if letter.message_id is not None:
        missing["In-Reply-To"] = letter.message_id
        missing["References"] = " ".join([*letter.references, letter.message_id])
    for name, value in missing.items():
        if name not in answer:
            answer[name] = value
    return answer
