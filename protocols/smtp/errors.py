"""What SMTP refuses: each refusal carries its reply (RFC 5321 section 4.2, RFC 3463)."""

from certmaild.protocols.errors import ProtocolError


class Refusal(ProtocolError):
    """One refused command or message, with the reply that says so. 4yz may be tried again, 5yz not."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(f"{code} {enhanced} {text}")
        self.code = code
        self.enhanced = enhanced
        self.text = text


def internal_error() -> Refusal:
    """The fixed answer to anything unexpected; the reason is in the log only."""
    return Refusal(451, "4.3.0", "Internal error, please try again later")


def too_much_unfinished() -> Refusal:
    """Content under way exceeds what one address, or all together, may hold (PROTOCOLS section 6)."""
    return Refusal(452, "4.3.1", "Too much mail under way, please try again later")


def too_large() -> Refusal:
    """The message exceeds the size announced in SIZE (RFC 1870)."""
    return Refusal(552, "5.3.4", "Message is larger than this server accepts")
