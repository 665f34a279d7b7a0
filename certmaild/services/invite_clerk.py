"""``invite@``: whoever has a pickup code to pass on has it renewed here."""

from email.message import EmailMessage

from certmaild.guests.renewal import Renewal
from certmaild.services.interfaces import Request


class InviteClerk:
    """A `Clerk`."""

    def __init__(self, renewal: Renewal) -> None:
        self._renewal = renewal

    async def answer(self, request: Request) -> EmailMessage | None:
        """See `Clerk.answer`."""
        return await self._renewal.answer(request.login, request.tag, request.in_reply_to, request.lines)
