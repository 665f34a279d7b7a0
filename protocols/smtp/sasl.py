"""AUTH PLAIN and LOGIN as a dialogue of challenges and responses (RFC 4954, RFC 4616)."""

from certmaild.protocols.smtp import grammar
from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.grammar import PlainCredentials


class Exchange:
    """One AUTH command on its way to a user name and password."""

    def __init__(self, mechanism: bytes) -> None:
        self._is_plain = mechanism == b"PLAIN"
        self._username: bytes | None = None

    @classmethod
    def begin(cls, argument: bytes) -> "Exchange":
        """The dialogue for AUTH's argument; raises `Refusal` 504 for an unknown mechanism."""
        mechanism = argument.partition(b" ")[0].upper()
        if mechanism not in (b"PLAIN", b"LOGIN"):
            raise Refusal(504, "5.5.4", "Mechanism not supported")
        return cls(mechanism)

    @property
    def challenge(self) -> bytes:
        """The line to send next; LOGIN asks for ``Username:`` and ``Password:`` in base64."""
        if self._is_plain:
            return b"334 \r\n"
        return b"334 VXNlcm5hbWU6\r\n" if self._username is None else b"334 UGFzc3dvcmQ6\r\n"

    def receive(self, line: bytes) -> PlainCredentials | None:
        """Credentials, or None when another challenge is due. Raises `Refusal`, also for the cancelling ``*``."""
        if line == b"*":
            raise Refusal(501, "5.7.0", "Authentication cancelled")
        response = grammar.parse_base64(line)
        if self._is_plain:
            return grammar.parse_plain(response)
        if self._username is not None:
            return PlainCredentials(self._username, response)
        if not response or b"\0" in response:
            raise Refusal(501, "5.5.2", "Bad user name")
        self._username = response
        return None
