"""``try@`` for who is logged in: every message is answered, so that a reply can be tried."""

from collections.abc import Callable
from email.message import EmailMessage

from certmaild.guests import trial_texts
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox import daily_counts
from certmaild.mailbox.guests import read_guest
from certmaild.mailbox.interfaces import Engine, WriteTxn
from certmaild.mailbox.layout_guests import Counted
from certmaild.protocols.smtp.errors import Refusal
from certmaild.services.interfaces import Request

ECHOES = 50
"""Answers to one mailbox in 24 hours."""


class TrialClerk:
    """A `Clerk`. Past `ECHOES` a message is refused with 450 4.7.1."""

    def __init__(self, engine: Engine, secrets: ServerSecrets, seconds: Callable[[], float]) -> None:
        self._engine = engine
        self._secrets = secrets
        self._seconds = seconds

    async def answer(self, request: Request) -> EmailMessage | None:
        """See `Clerk.answer`."""
        user_id, now = request.login.user_id, int(self._seconds())

        def work(txn: WriteTxn) -> int:
            if daily_counts.count(txn, self._secrets, user_id, Counted.ECHOED, now) >= ECHOES:
                raise Refusal(450, "4.7.1", trial_texts.TOO_MANY_ECHOES.format(limit=ECHOES))
            daily_counts.note(txn, self._secrets, user_id, Counted.ECHOED, now, 1)
            row = read_guest(txn, self._secrets, user_id)
            return 0 if row is None else row.trial_until_s

        until_s = await self._engine.write(work)
        return trial_texts.echo_letter(request.subject, request.text, until_s)
