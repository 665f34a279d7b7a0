"""What the protocol servers need from the floor above: who may come in, and who he is."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from certmaild.keystore.users import KeyRing
from certmaild.mailbox.identifiers import CredentialId, UserId
from certmaild.mailbox.layout_accounts import Kind
from certmaild.mailbox.opened import OpenMailbox


class Service(Enum):
    """What a password is used for; a credential's scopes say which of these it opens."""

    IMAP = "imap"
    POP3 = "pop3"
    SUBMISSION = "submission"


@dataclass(frozen=True, slots=True)
class Login:
    """A proven user. Its key ring is held until `Gatekeeper.log_out`."""

    user_id: UserId
    address: str
    """The account's main address, canonical."""
    credential_id: CredentialId
    read_only: bool
    """The credential's scopes lack imap-write."""
    keys: KeyRing = field(repr=False)
    kind: Kind = Kind.PASSWORD
    """Of the credential: with a pickup or recovery code not all is shown."""


class LogInRefused(Exception):
    """Wrong name or password, unknown or disabled account, or missing scope: one error, one text, one duration."""


class LogInUnavailable(Exception):
    """Not a wrong password: a backend fault, a throttle or a full queue. Answer temporarily; ``retry_s`` is a hint."""

    def __init__(self, public_text: str, retry_s: int | None = None) -> None:
        super().__init__(public_text)
        self.public_text = public_text
        self.retry_s = retry_s


class LogInForbidden(Exception):
    """Name and password are right, but not this way; ``public_text`` (ASCII) says what to do instead."""

    def __init__(self, public_text: str) -> None:
        super().__init__(public_text)
        self.public_text = public_text


class TooManySessions(Exception):
    """The credential or the mailbox has all its sessions (PROTOCOLS: 30 per credential, 200 per mailbox)."""


class Gatekeeper(Protocol):
    """Log-in, with throttle, KDF admission, session limits and evidence of use."""

    async def log_in(self, username: bytes, password: bytes, *, service: Service, peer: str) -> Login:
        """Prove a user. ``peer`` is an IP address.

        Raises `LogInRefused`, `LogInUnavailable`, `LogInForbidden` or `TooManySessions`.
        """
        ...

    async def is_valid(self, login: Login) -> bool:
        """Whether the account is active and the credential unrevoked; asked again on every account change."""
        ...

    def log_out(self, login: Login) -> None:
        """End of the session: drops its reference to the keys and its place in the counts."""

    async def open_mailbox(self, login: Login) -> OpenMailbox:
        """The user's mailbox in this process, shared with his other sessions (IMAP and POP3)."""
        ...


class ClientWatch(Protocol):
    """Hears with what programs people come in. Both calls raise `LogInForbidden` where the session may not go on."""

    async def entered(self, login: Login, service: Service, peer: str) -> None:
        """Somebody has logged in, from this IP address; he is not answered yet."""

    async def told(self, login: Login, client_id: "ClientId", peer: str) -> None:
        """His program has said what it is (RFC 2971); or it had before he logged in, who then is not answered yet."""


ClientId = tuple[tuple[str, str], ...]
"""Fields and values of ID as the client gave them, NIL as an empty value."""


class Admission(Protocol):
    """A connection's place in the counts of its listener."""

    def authenticated(self) -> None:
        """It no longer counts as not logged in."""

    def leave(self) -> None:
        """It is gone; may be called more than once."""


class Doorkeeper(Protocol):
    """Connection limits before log-in (100 an address and port, 10,000 in all, the oldest silent one gives way)."""

    def admit(self, peer: str, port: int, give_way: "Evictable") -> Admission | None:
        """A place, or None when the address has too many."""
        ...


class Evictable(Protocol):
    """A connection that may be asked to go when places run out."""

    def evict(self) -> None:
        """Say why and close."""
