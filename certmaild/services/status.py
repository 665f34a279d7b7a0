"""The clerk of status@: how a mailbox stands, what its owner sent elsewhere; to auditors the audit log."""

import re
from collections.abc import Callable
from email.message import EmailMessage
from itertools import islice

from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox import audit_log
from certmaild.mailbox.account_rows import read_account
from certmaild.mailbox.identifiers import QueueId, UserId
from certmaild.mailbox.interfaces import Engine, ReadTxn
from certmaild.mailbox.layout_accounts import Role
from certmaild.mailbox.ownership import read_quota
from certmaild.outbound.orders import MessageView, Orders
from certmaild.outbound.spool import Spool
from certmaild.services import status_texts as texts
from certmaild.services.commands import folded
from certmaild.services.fleet import read_fleet
from certmaild.services.interfaces import Request
from certmaild.services.texts import letter

MOST_SHOWN = 50
"""Messages in one answer."""
MOST_LOOKED_AT = 10_000
"""Of the queue, in a reader thread."""
AUDIT_ROWS = 200
"""In one answer, the latest."""
_AUDIT = re.compile(r"(?:audit|protokoll)\b\s*(.*)")


class StatusClerk:
    """Answers at status@. ``spool`` is the queue."""

    def __init__(self, engine: Engine, secrets: ServerSecrets, spool: Spool, seconds: Callable[[], float]) -> None:
        self._engine = engine
        self._secrets = secrets
        self._spool = spool
        self._seconds = seconds

    async def answer(self, request: Request) -> EmailMessage | None:
        """See `Clerk.answer`: by the ids that stand anywhere in the message, quotes too, else of all that waits."""
        asked = next((found for line in request.lines if (found := _AUDIT.fullmatch(folded(line)))), None)
        if asked is not None:
            return letter(await self._audit(request, asked[1]))
        if request.queue_ids:
            views = await self._named(request)
            if views or not request.is_answer:
                return letter(texts.messages_named(views, int(self._seconds())))
        return letter(await self._overview(request))

    async def _named(self, request: Request) -> list[MessageView]:
        """The requester's own messages of those that are named; who else's there are is not told."""
        orders, user_id = Orders(self._spool), request.login.user_id

        def work(txn: ReadTxn) -> list[MessageView]:
            views = (orders.view(txn, QueueId(bytes.fromhex(one))) for one in request.queue_ids)
            return [one for one in views if one is not None and one.sender == user_id]

        return await self._engine.read(work)

    async def _overview(self, request: Request) -> str:
        login, secrets = request.login, self._secrets
        with login.keys:
            devices = await self._engine.read(lambda txn: read_fleet(txn, secrets, login.keys))
        quota = await self._engine.read(lambda txn: read_quota(txn, secrets, login.user_id))
        waiting, is_all = await self._engine.scan(lambda txn: self._waiting(txn, login.user_id))
        return texts.overview(
            login.address, quota, [one.name for one in devices], waiting, int(self._seconds()), is_all=is_all
        )

    def _waiting(self, txn: ReadTxn, user_id: UserId) -> tuple[list[MessageView], bool]:
        """His messages that are still to be sent to somebody, and whether that is all of them."""
        queue, orders = self._spool.queue, Orders(self._spool)
        found: list[MessageView] = []
        ids = list(islice(queue.messages(txn), MOST_LOOKED_AT + 1))
        for queue_id in ids[:MOST_LOOKED_AT]:
            message, state = queue.message(txn, queue_id), queue.state(txn, queue_id)
            if message is None or state is None or not state.open or message.sender != user_id:
                continue
            if len(found) == MOST_SHOWN:
                return found, False
            if (view := orders.view(txn, queue_id)) is not None:
                found.append(view)
        return sorted(found, key=lambda one: one.accepted_s), len(ids) <= MOST_LOOKED_AT

    async def _audit(self, request: Request, whom: str) -> str:
        """The latest rows about ``whom``, of all if that is empty; for auditors and administrators."""
        secrets, user_id = self._secrets, request.login.user_id
        account = await self._engine.read(lambda txn: read_account(txn, secrets, user_id))
        if account is None or account.role not in (Role.AUDITOR, Role.ADMIN):
            return texts.NO_AUDITOR
        rows, is_whole = await audit_log.read_all(self._engine, secrets)
        wanted = [one for one in rows if whom in folded(f"{one[1].whom} {one[1].by}")]
        return texts.audit(wanted[-AUDIT_ROWS:], len(wanted), len(rows), is_whole=is_whole)
