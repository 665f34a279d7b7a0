"""Bytes about guests and what the server keeps for users: who was invited, whom one has heard from, service messages,
the audit log, groups.

Rows are few and server-sealed, so values are JSON as in `certmaild.mailbox.layout_partners`; keys of ``heard`` are
keyed hashes, since addresses of strangers stand nowhere in clear.
"""

from enum import IntEnum
from typing import TypeVar

import msgspec

from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.identifiers import Mid, UserId
from certmaild.mailbox.layout import U64


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    version: int = 1


class WriterRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody who wrote to a guest."""

    name: str
    """As he calls himself, fit to be shown; may be empty."""
    address: str
    user_id: str = ""
    """His account's in hexadecimal; empty when it is elsewhere."""
    at_s: int = 0
    """When he wrote last, seconds since 1970."""


class GuestRow(_Row, frozen=True, forbid_unknown_fields=True):
    """``guest/<user>``: a guest, how he came, and what he was told. Times are seconds since 1970, 0 is never."""

    ordinary: str
    """His ordinary address as it was given, an alias of the account; empty: the account is named by his only one."""
    inviter: str
    """Main address of who invited him first."""
    inviter_id: str
    """That account's user id in hexadecimal; empty when it is elsewhere (gateway)."""
    invited_s: int
    code_expires_s: int = 0
    """When the pickup code dies unused; 0: there is none."""
    pickup_mid: str = ""
    """The message in the inviter's mailbox that shows the code, in hexadecimal; empty: none does."""
    opened_s: int = 0
    """First log-in with the pickup code."""
    joined_s: int = 0
    """First log-in with a password of his own: from then on he sees everything and the code is dead."""
    noticed_s: int = 0
    """The last notice."""
    notice_due_s: int = 0
    """When the next one is looked at; it stands so in ``qdue``. 0: none is due."""
    writers: tuple[WriterRow, ...] = ()
    """Who wrote since the last notice, the latest last; not all of many."""
    language: str = ""
    """Of notices; empty: not known."""
    generation: int = 1
    """How often his keys were made anew because nobody could renew his code."""
    wrong_codes: int = 0
    """Wrong tries since the inviter was last warned."""
    warned_s: int = 0
    """When he was."""
    welcome_mid: str = ""
    """The message in the guest's own mailbox that shows his first password, in hexadecimal; empty: none does."""
    trial_until_s: int = 0
    """When a mailbox that he asked for himself at ``try@`` is removed; 0: he was invited."""
    trial_told_s: int = 0
    """When he was told that it will be."""


class Counted(IntEnum):
    """What is counted by the day."""

    INVITED = 1
    """Guests that somebody invited."""
    SENT = 2
    """Recipients elsewhere that somebody sent to."""
    TRIALS = 3
    """Trials that were asked for, by all together: ``user`` is 16 zero octets."""
    ASKED = 4
    """Trials that were asked for at an address that has this mailbox."""
    ECHOED = 5
    """Messages that were answered by ``try@``."""
    REQUESTED = 6
    """Messages to service addresses that were answered."""


class DailyRow(_Row, frozen=True, forbid_unknown_fields=True):
    """``daily/<user><what>``: how much of something there was lately."""

    hours: tuple[tuple[int, int], ...] = ()
    """Hour since 1970, and how many in it."""


class Service(IntEnum):
    """What a message of the server's own is."""

    DEVICE = 1
    """Tells of a way in (``number``)."""
    PASSWORD = 2
    """Shows the password of a way in (``number``)."""
    INSTRUCTION = 3
    """How to use the service folder (``number``: `ServiceFolder`)."""


class ServiceRow(_Row, frozen=True, forbid_unknown_fields=True):
    """``service/<user><mid>``: a message of the server's own in one of his folders."""

    kind: int
    number: int
    made_s: int
    digest: str = ""
    """Of what it says, so that it is written anew when that has changed."""


class AuditRow(_Row, frozen=True, forbid_unknown_fields=True):
    """``audit/<number>``: one thing that was done to accounts, bound to the row before it."""

    at_s: int
    by: str
    """An address, ``command`` and the system's user, or ``server``."""
    act: str
    """A short verb: ``guest invited``, ``device revoked``."""
    whom: str
    detail: str = ""
    previous: str = ""
    """SHA-256 of the plaintext of the row before it, in hexadecimal."""


class ClientRow(_Row, frozen=True, forbid_unknown_fields=True):
    """``client/<user><credential>``: with what program, and from where, a way in was last used."""

    program: str = ""
    """As it said (RFC 2971); empty: it did not."""
    program_version: str = ""
    network: str = ""
    """Where it came from: a network of 24 bits, or 48 with IPv6."""
    told_s: int = 0
    """When this was written."""
    relay: str = ""
    """The cloud of a mail program's maker that the way in was last used through; empty: none is known."""
    relay_s: int = 0
    """When that was first seen."""
    relay_told_s: int = 0
    """When the user was last told."""
    relay_refused: bool = False
    """Whether it was refused then."""


class GroupRow(_Row, frozen=True, forbid_unknown_fields=True):
    """``group/<address>``: a list of members as one recipient."""

    display: str
    members: tuple[str, ...]
    made_s: int
    senders: str = "members"
    """Who may write to it: ``members`` of this server, ``list`` (only who is in it), ``anyone``."""


T = TypeVar("T", bound=_Row)

_encoder = msgspec.json.Encoder()


def encode(row: _Row) -> bytes:
    """Plaintext of a row of these tables."""
    return _encoder.encode(row)


def decode(kind: type[T], plain: bytes) -> T:
    """Inverse of `encode`. Raises `Damaged`."""
    try:
        row = msgspec.json.decode(plain, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Damaged(kind.__name__) from None
    if row.version != 1:
        raise Damaged(kind.__name__)
    return row


def service_key(user_id: UserId, mid: Mid) -> bytes:
    """Key in ``service``."""
    return user_id + mid


def audit_key(number: int) -> bytes:
    """Key in ``audit``, from 1."""
    return U64.pack(number)


def heard_key(user_id: UserId, heard_hash: bytes) -> bytes:
    """Key in ``heard``: whom (as `ServerSecrets.heard_hash`) the user has had mail from. The value is empty."""
    return user_id + heard_hash


def daily_key(user_id: UserId, what: Counted) -> bytes:
    """Key in ``daily``."""
    return user_id + bytes([what])
