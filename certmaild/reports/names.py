"""As whom the server writes."""

from dataclasses import dataclass, field

from certmaild.protocols.limits import Limits


@dataclass(frozen=True, slots=True)
class ServerName:
    """The names and addresses of the server as a writer, and how it stores what it writes."""

    hostname: str
    domain: str
    """The first hosted one."""
    limits: Limits = field(default_factory=Limits)
    padding: bool = True

    @property
    def postmaster(self) -> str:
        """Who can be asked, and who writes where nobody else is named."""
        return f"postmaster@{self.domain}"

    @property
    def mailer(self) -> str:
        """Who writes delivery status reports."""
        return f"MAILER-DAEMON@{self.domain}"
