"""A message that leaves the house, while it comes in: what must be known of its content before it is queued."""

from certmaild.dkim.body_hash import BodyHash
from certmaild.mailbox.addresses import canonical_domain
from certmaild.mailbox.errors import AddressError
from certmaild.mailbox.mime_header import read_fields
from certmaild.outbound.dkim_sign import Signer
from certmaild.protocols.smtp.errors import Refusal
from certmaild.trace import parse_authors

_TLS_REQUIRED = b"tls-required"
_BLANK_LINE = 2


class Departure:
    """Is fed with the content as it is stored, header first. Without a signer nothing is signed."""

    def __init__(self, signer: Signer | None = None) -> None:
        self._signer = signer
        self._body: BodyHash | None = None
        self._before_body = 0
        self.header = b""
        """The header as it is stored, without the blank line."""
        self.is_seven_bit = True
        """Whether all content so far is ASCII."""

    def take_header(self, header: bytes) -> None:
        """The header, before any content is fed."""
        self.header = header
        self._before_body = len(header) + _BLANK_LINE
        self._body = None if self._signer is None else self._signer.body_hash()

    def feed(self, content: bytes) -> None:
        """The next octets, from those of the header on."""
        self.is_seven_bit = self.is_seven_bit and content.isascii()
        if self._before_body:
            skipped = min(self._before_body, len(content))
            self._before_body -= skipped
            content = content[skipped:]
        if self._body is not None and content:
            self._body.feed(content)

    @property
    def makes_tls_optional(self) -> bool:
        """``TLS-Required: No``, once (RFC 8689 section 5)."""
        values = [value.strip().lower() for _, value in read_fields(self.header, frozenset((_TLS_REQUIRED,)))]
        return values == [b"no"]

    def signatures(self, now_s: float) -> bytes:
        """DKIM-Signature fields to stand above the header, once all was fed; none without a signer or keys."""
        if self._signer is None or self._body is None:
            return b""
        self._body.finish()
        domain = self._author_domain()
        return b"" if domain is None else self._signer.sign(self.header, self._body, domain=domain, now_s=now_s)

    def _author_domain(self) -> str | None:
        """The domain of the first address in From."""
        for _, value in read_fields(self.header, frozenset((b"from",))):
            try:
                for author in parse_authors(value):
                    return canonical_domain(author.rpartition("@")[2])
            except (AddressError, Refusal):
                return None
        return None
