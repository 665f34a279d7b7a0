"""Bytes of the accounts' half of the store: addresses, accounts, credentials and the days they were used.

Part of `certmaild.mailbox.layout`; docs/storage.md says the same in words. Integers are big-endian. ``addr`` and
``cred`` rows stand as they are (a credential binds its own fields by the AAD of its wrap); ``acct`` and ``seen`` are
what the server seals. ``pk``, ``epoch`` and ``ident`` are laid out by `certmaild.keystore.users`, which makes them.
"""

from dataclasses import dataclass
from enum import STRICT, IntEnum, IntFlag
from struct import Struct, error

from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.identifiers import CredentialId, UserId

U16 = Struct(">H")
U32 = Struct(">I")
LABEL_RECORD = 0x10
"""The type octet of a credential's label, sealed under the user's keys at the place `credential_place`."""
UNLIMITED = 0xFFFFFFFFFFFFFFFF


class State(IntEnum):
    """Of an account."""

    ACTIVE = 1
    DISABLED = 2
    """RCPT 550 5.2.1; log-in is answered like a wrong password; what arrived stays."""
    PARKED = 3
    """Started over: another user id has the address; this one waits until an old secret appears or it is dropped."""


class Role(IntEnum):
    """Who somebody is to the server."""

    MEMBER = 1
    GUEST = 2
    APP = 3
    """A program: it only submits."""
    AUDITOR = 4
    """A member who may read the audit log."""
    ADMIN = 5
    """A member who may administer."""

    @property
    def is_member(self) -> bool:
        """Whether he may do what a member may."""
        return self in (Role.MEMBER, Role.AUDITOR, Role.ADMIN)


class SentCopies(IntEnum):
    """Who keeps a copy of what was sent (PROTOCOLS section 7)."""

    CLIENT = 1
    SERVER = 2


class Option(IntFlag, boundary=STRICT):
    """What an account may have switched on."""

    RETRIEVE_MARKS_SEEN = 1
    r"""POP3's RETR sets ``\Seen``."""
    SERVICE_FOLDERS = 2
    """The server keeps its own folders for the user: Devices and the like."""


NO_OPTIONS = Option(0)


# addr: look-up form -> account or alias.

_TO_ACCOUNT = 1
_TO_ALIAS = 2
_RETIRED = 3
_TO_GROUP = 4


def encode_owner(user_id: UserId) -> bytes:
    """Value in ``addr`` of an account's main address."""
    return bytes([_TO_ACCOUNT]) + user_id


def encode_alias(target: str) -> bytes:
    """Value in ``addr`` of an alias: the look-up form of a main address."""
    return bytes([_TO_ALIAS]) + target.encode("utf-8")


def encode_retired() -> bytes:
    """Value in ``addr`` of an address that was somebody's and is never anybody else's."""
    return bytes([_RETIRED])


def encode_group() -> bytes:
    """Value in ``addr`` of a group's address: who is in it stands in ``group``."""
    return bytes([_TO_GROUP])


def decode_address(value: bytes) -> UserId | str | None:
    """The account's id, the look-up form of an alias's target, or None for a retired one and a group's."""
    if value in (encode_retired(), encode_group()):
        return None
    if value[:1] == bytes([_TO_ACCOUNT]) and len(value) == 17:
        return UserId(value[1:])
    if value[:1] == bytes([_TO_ALIAS]):
        try:
            return value[1:].decode("utf-8")
        except UnicodeDecodeError:
            pass
    raise Damaged("address row")


# acct.

_ACCOUNT = Struct(">BBBBQQIQ")
_OPTIONS_AT = _ACCOUNT.size


@dataclass(frozen=True, slots=True)
class Account:
    """What the server must know of a user without him."""

    state: State
    role: Role
    sent_copies: SentCopies
    octets_limit: int | None
    messages_limit: int | None
    last_uid_validity: int
    """The highest UIDVALIDITY that may have been used for this address when the row was written."""
    created: int
    """Seconds since 1970."""
    address: str
    """The main address in look-up form."""
    display: str
    """The main address as it was given."""
    options: Option = NO_OPTIONS


def encode_account(account: Account) -> bytes:
    """Plaintext of a row in ``acct``."""
    fixed = _ACCOUNT.pack(
        2,
        account.state,
        account.role,
        account.sent_copies,
        UNLIMITED if account.octets_limit is None else account.octets_limit,
        UNLIMITED if account.messages_limit is None else account.messages_limit,
        account.last_uid_validity,
        account.created,
    )
    names = _prefixed(account.address.encode("utf-8")) + _prefixed(account.display.encode("utf-8"))
    return fixed + bytes([account.options]) + names


def decode_account(plain: bytes) -> Account:
    """Inverse of `encode_account`; a row of version 1, which has no options octet, is read too. Raises `Damaged`."""
    try:
        version, state, role, sent, octets, messages, validity, created = _ACCOUNT.unpack_from(plain)
        options = plain[_OPTIONS_AT] if version > 1 else 0
        address, at = _unprefixed(plain, _OPTIONS_AT + (version > 1))
        display, at = _unprefixed(plain, at)
        if version not in (1, 2) or at != len(plain):
            raise Damaged("account row")
        return Account(
            State(state),
            Role(role),
            SentCopies(sent),
            None if octets == UNLIMITED else octets,
            None if messages == UNLIMITED else messages,
            validity,
            created,
            address.decode("utf-8"),
            display.decode("utf-8"),
            Option(options),
        )
    except (error, ValueError, IndexError):
        raise Damaged("account row") from None


def _prefixed(octets: bytes) -> bytes:
    return U16.pack(len(octets)) + octets


def _unprefixed(octets: bytes, at: int) -> tuple[bytes, int]:
    end = at + 2 + int(U16.unpack_from(octets, at)[0])
    if end > len(octets):
        raise Damaged("a length points past its row")
    return octets[at + 2 : end], end


# cred and seen.

_CREDENTIAL = Struct(">BBBBIIB16s32sHQQ")
MAX_ROUNDS = 512
"""Of bcrypt_pbkdf: a row that asks for more was tampered with, and would keep a thread busy for ever."""
WRAP_OCTETS = 12 + 32 + 16
"""Nonce, root key, tag."""


class Kind(IntEnum):
    """Of a credential (KEYS section 4)."""

    PASSWORD = 1
    DEVICE = 2
    RECOVERY = 3
    PICKUP = 4


class Scope(IntFlag):
    """What a credential opens."""

    IMAP_READ = 1
    IMAP_WRITE = 2
    POP = 4
    SUBMIT = 8
    MANAGE = 16


MAIL_SCOPES = Scope.IMAP_READ | Scope.IMAP_WRITE | Scope.POP | Scope.SUBMIT
SINGLE_PASSWORD_ID = CredentialId(1 << 20)
"""The human password's id: just above the 20 bits of the looked-up ones."""
PICKUP_ID = CredentialId(SINGLE_PASSWORD_ID + 1)
"""The pickup code's id: a guest has one at most."""


@dataclass(frozen=True, slots=True)
class CredentialHead:
    """Everything before the wrap; its bytes are the wrap's AAD."""

    kind: Kind
    kdf_id: int
    pepper_id: int
    rounds: int
    salt: bytes
    verifier: bytes
    scopes: Scope
    created: int
    """Seconds since 1970."""
    expires: int = 0
    """Seconds since 1970; 0 is never."""
    networks: bytes = b""
    """Networks it may be used from, one a line; empty is any."""
    suite: int = 1
    memory: int = 0
    parallel: int = 0
    slot: int = 0


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """One way in, as stored."""

    head: CredentialHead
    wrap: bytes
    label: bytes
    """Sealed under the user's keys; empty without a label."""


def credential_key(user_id: UserId, credential_id: CredentialId) -> bytes:
    """Key in ``cred`` and ``seen``."""
    return user_id + U32.pack(credential_id)


def decode_credential_key(key: bytes) -> tuple[UserId, CredentialId]:
    """Inverse of `credential_key`."""
    return UserId(key[:16]), CredentialId(int(U32.unpack_from(key, 16)[0]))


def credential_place(credential_id: CredentialId) -> bytes:
    """What a label's seal binds beside the user."""
    return U32.pack(credential_id)


def encode_credential_head(head: CredentialHead) -> bytes:
    """The fields before the wrap."""
    fixed = _CREDENTIAL.pack(
        head.suite,
        head.kind,
        head.kdf_id,
        head.pepper_id,
        head.rounds,
        head.memory,
        head.parallel,
        head.salt,
        head.verifier,
        head.scopes,
        head.created,
        head.expires,
    )
    return fixed + _prefixed(head.networks) + U32.pack(head.slot)


def credential_aad(head: CredentialHead, user_id: UserId, credential_id: CredentialId) -> bytes:
    """What the wrap binds: every field before it, and whose it is."""
    return encode_credential_head(head) + credential_key(user_id, credential_id)


def encode_credential(row: CredentialRow) -> bytes:
    """Value in ``cred``."""
    return encode_credential_head(row.head) + row.wrap + _prefixed(row.label)


def decode_credential(value: bytes) -> CredentialRow:
    """Inverse of `encode_credential`. Raises `Damaged`."""
    try:
        (suite, kind, kdf_id, pepper_id, rounds, memory, parallel, salt, verifier, scopes, created, expires) = (
            _CREDENTIAL.unpack_from(value)
        )
        networks, at = _unprefixed(value, _CREDENTIAL.size)
        slot = int(U32.unpack_from(value, at)[0])
        at += U32.size
        wrap = value[at : at + WRAP_OCTETS]
        label, end = _unprefixed(value, at + WRAP_OCTETS)
        if (kdf_id, memory, parallel) not in ((0, 0, 0), (1, 0, 0)) or not kdf_id <= rounds <= kdf_id * MAX_ROUNDS:
            raise Damaged("credential row")
        if suite != 1 or slot != 0 or len(wrap) != WRAP_OCTETS or end != len(value):
            raise Damaged("credential row")
        head = CredentialHead(
            Kind(kind),
            kdf_id,
            pepper_id,
            rounds,
            salt,
            verifier,
            Scope(scopes),
            created,
            expires,
            networks,
            suite,
            memory,
            parallel,
            slot,
        )
    except (error, ValueError):
        raise Damaged("credential row") from None
    return CredentialRow(head, wrap, label)


MOST_ROUNDS = b"rounds/most"
"""Key in ``meta``: the most rounds that any password is stored under, so that a wrong one always takes as long."""


def encode_rounds(rounds: int) -> bytes:
    """Value of `MOST_ROUNDS` in ``meta``."""
    return U32.pack(rounds)


def decode_rounds(value: bytes) -> int:
    """Inverse of `encode_rounds`; never more than `MAX_ROUNDS`, whatever stands there. Raises `Damaged`."""
    try:
        return min(int(U32.unpack(value)[0]), MAX_ROUNDS)
    except error:
        raise Damaged("rounds") from None


def encode_day(day: int) -> bytes:
    """Plaintext of a row in ``seen``: days since 1970."""
    return U32.pack(day)


def decode_day(plain: bytes) -> int:
    """Inverse of `encode_day`. Raises `Damaged`."""
    try:
        return int(U32.unpack(plain)[0])
    except error:
        raise Damaged("seen row") from None


def numbered_key(user_id: UserId, number: int) -> bytes:
    """Key in ``epoch`` and ``ident``."""
    return user_id + U32.pack(number)
