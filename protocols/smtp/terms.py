"""What one listener demands of a client and allows it, and how EHLO says so (RFC 5321 section 4.1.1.1)."""

from datetime import UTC, datetime
from typing import NamedTuple

from certmaild.protocols.limits import Limits
from certmaild.protocols.smtp.parameters import Extension


class Terms(NamedTuple):
    """The terms of a connection in its present condition: others hold after STARTTLS."""

    hostname: str
    limits: Limits
    is_submission: bool
    in_tls: bool
    offer_starttls: bool = True
    """Certificates are there; never inside TLS, whatever this says."""
    require_tls: bool = True
    """Refuse mail before TLS; on port 25 but for postmaster."""
    is_partner: bool = False
    """The client is a partner's server, known by certificate or network."""
    now_s: int = 0
    """When this began, in seconds since 1970."""

    @property
    def size_limit(self) -> int:
        """Octets of the largest message (PROTOCOLS section 6)."""
        return self.limits.message_size if self.is_submission or self.is_partner else self.limits.message_size_port_25

    @property
    def may_start_tls(self) -> bool:
        """Whether STARTTLS is offered now."""
        return self.offer_starttls and not self.in_tls

    @property
    def extensions(self) -> tuple[Extension, ...]:
        """What MAIL and RCPT may say here beside what they always may."""
        offered = [Extension.DSN, Extension.DELIVERBY]
        if self.in_tls:
            offered.append(Extension.REQUIRETLS)
        if self.in_tls and self.is_submission:
            offered += [Extension.MT_PRIORITY, Extension.FUTURERELEASE]
        return tuple(offered)

    @property
    def future_release(self) -> str:
        """The keyword with the longest time in seconds and the last date-time (RFC 4865 section 4)."""
        longest = self.limits.hold_time
        last = datetime.fromtimestamp(self.now_s + longest, UTC)
        return f"{Extension.FUTURERELEASE.value} {longest} {last:%Y-%m-%dT%H:%M:%SZ}"

    def keywords(self, *, logged_in: bool) -> list[str]:
        """The EHLO keywords with their parameters, in the order in which they are said."""
        keywords = [
            "PIPELINING",
            f"SIZE {self.size_limit}",
            "8BITMIME",
            "SMTPUTF8",
            "CHUNKING",
            "ENHANCEDSTATUSCODES",
            f"LIMITS RCPTMAX={self.limits.recipients}",
        ]
        keywords += [
            self.future_release if extension is Extension.FUTURERELEASE else extension.value
            for extension in self.extensions
        ]
        if self.may_start_tls:
            keywords.append("STARTTLS")
        if self.is_submission and self.in_tls and not logged_in:
            keywords.append("AUTH PLAIN LOGIN")
        return [*keywords, "HELP"]
