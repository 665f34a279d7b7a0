"""What the SMTP server uses of Twisted's transports beyond the others: STARTTLS, and what was negotiated."""

from typing import Protocol

from certmaild.protocols import transport


class TlsHandle(Protocol):
    """The OpenSSL connection under a TLS transport."""

    def get_protocol_version_name(self) -> str: ...
    def get_cipher_name(self) -> str | None: ...
    def get_group_name(self) -> str | None: ...
    def peer_chain(self) -> tuple[bytes, ...]: ...


class Transport(transport.Transport, Protocol):
    """A TCP connection, clear or inside TLS (`getHandle` only there, `startTLS` only in clear)."""

    def getHandle(self) -> TlsHandle: ...
    def startTLS(self, factory: object) -> None: ...
