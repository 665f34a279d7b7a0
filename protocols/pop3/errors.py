"""What POP3 refuses: one ``-ERR`` each (RFC 1939 section 3, RFC 2449 section 8)."""

from certmaild.protocols.errors import ProtocolError


class Refusal(ProtocolError):
    """One ``-ERR``. ``code`` is a response code without brackets."""

    def __init__(self, text: str, code: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class BadCommand(Refusal):
    """The client's mistake: it counts towards the limit of bad commands."""


def internal_error() -> Refusal:
    """The fixed answer to anything unexpected; the reason is in the log only."""
    return Refusal("Internal error, please try again later", "SYS/TEMP")
