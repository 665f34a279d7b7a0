"""Ways into a mailbox: making credentials, proving one, and unlocking the keys behind it (KEYS sections 3 and 4)."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from certmaild.keystore.codes import Code, new_device_password, new_pickup_code, parse_device_password
from certmaild.keystore.credentials import (
    KDF_BCRYPT,
    KDF_NONE,
    new_salt,
    password_octets,
    prove,
    stretch,
)
from certmaild.keystore.secret import Secret
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.keystore.users import KeyRing, unlock
from certmaild.mailbox.account_rows import read_account, read_credential
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.identifiers import CredentialId, UserId
from certmaild.mailbox.interfaces import ReadTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import (
    LABEL_RECORD,
    MAIL_SCOPES,
    PICKUP_ID,
    SINGLE_PASSWORD_ID,
    U32,
    Account,
    CredentialHead,
    CredentialRow,
    Kind,
    Role,
    Scope,
    credential_aad,
    credential_key,
    credential_place,
)

DEVICE_IDS = 1 << 20
MAX_LABEL_OCTETS = 200
PICKUP_ROUNDS = 8
"""Of bcrypt_pbkdf, some 30 ms: 80 random bits need no more, and a mail program logs in with them again and again."""


@dataclass(frozen=True, slots=True)
class Keyed:
    """What one consistent read gives to prove a credential and unlock the keys behind it."""

    user_id: UserId
    credential_id: CredentialId
    account: Account
    credential: CredentialRow
    stamp: bytes
    """The stored account and credential rows as they are: whether either changed since."""
    epochs: dict[int, bytes] = field(repr=False)
    identities: dict[int, bytes] = field(repr=False)
    public_key: bytes = field(repr=False)


def read_stamp(txn: ReadTxn, user_id: UserId, credential_id: CredentialId) -> bytes | None:
    """Account and credential rows as stored; None when either is gone."""
    account = txn.get(Table.ACCT, user_id)
    credential = txn.get(Table.CRED, credential_key(user_id, credential_id))
    return None if account is None or credential is None else U32.pack(len(account)) + account + credential


def read_keyed(
    txn: ReadTxn, secrets: ServerSecrets, user_id: UserId, credential_id: CredentialId, *, kinds: frozenset[Kind]
) -> Keyed | None:
    """The credential of one of these kinds with all that it opens; None when there is none."""
    stamp = read_stamp(txn, user_id, credential_id)
    if stamp is None:
        return None
    account = read_account(txn, secrets, user_id)
    credential = read_credential(txn, user_id, credential_id)
    public_key = txn.get(Table.PK, user_id)
    if account is None or credential is None or credential.head.kind not in kinds:
        return None
    if public_key is None:
        raise Damaged("an account without a public key")
    epochs, identities = (_numbered(txn, table, user_id) for table in (Table.EPOCH, Table.IDENT))
    return Keyed(user_id, credential_id, account, credential, stamp, epochs, identities, public_key)


def _numbered(txn: ReadTxn, table: Table, user_id: UserId) -> dict[int, bytes]:
    return {int(U32.unpack_from(key, 16)[0]): value for key, value in txn.scan(table, user_id, user_id + b"\xff" * 5)}


def material_for(head: CredentialHead, secret: bytes) -> bytes:
    """What the presented ``secret`` is stretched to; slow for a human password, so for a thread."""
    if head.kdf_id != KDF_NONE:
        return stretch(password_octets(secret), head.kdf_id, head.salt, head.rounds)
    code = parse_device_password(secret)
    return os.urandom(32) if code is None else code.material


def open_root(secrets: ServerSecrets, keyed: Keyed, material: bytes) -> Secret | None:
    """The root key if ``material`` is the right one; None if not. The verifier is compared before anything is opened.

    Raises `SealBroken` when the credential's fields were changed.
    """
    head = keyed.credential.head
    proof = prove(material, secrets.pepper(head.pepper_id), keyed.user_id, keyed.credential_id)
    if not proof.matches(head.verifier):
        return None
    return proof.unwrap(keyed.credential.wrap, credential_aad(head, keyed.user_id, keyed.credential_id))


@dataclass(frozen=True, slots=True)
class Opened:
    """A root key, and what the right password was stretched to."""

    root: Secret
    material: bytes = field(repr=False)


def stretch_and_open(
    secrets: ServerSecrets, keyed: Keyed | None, password: bytes, unknown_salt: bytes, rounds: int
) -> Opened | None:
    """The root key behind a human password or pickup code; None if it is wrong, or there is none to compare it with.

    Slow, for a thread. What comes to nothing takes ``rounds`` in all, with a password stored under fewer as without
    one, so that its time does not tell whose name is known. Raises `SealBroken` as `open_root` does.
    """
    left, salt = rounds, unknown_salt
    if keyed is not None:
        head = keyed.credential.head
        material = material_for(head, password)
        root = open_root(secrets, keyed, material)
        if root is not None:
            return Opened(root, material)
        left, salt = rounds - head.rounds, head.salt
    if left > 0:
        stretch(password_octets(password), KDF_BCRYPT, salt, left)
    return None


def open_keys(keyed: Keyed, root: Secret) -> KeyRing:
    """The user's key ring, owned by the caller. Raises `SealBroken`, `PublicKeySwapped`."""
    return unlock(keyed.user_id, root, keyed.epochs, keyed.identities, keyed.public_key)


def _seal(
    secrets: ServerSecrets,
    user_id: UserId,
    credential_id: CredentialId,
    head: CredentialHead,
    material: bytes,
    root: Secret,
) -> CredentialRow:
    proof = prove(material, secrets.pepper(head.pepper_id), user_id, credential_id)
    head = replace(head, verifier=proof.verifier)
    return CredentialRow(head, proof.wrap(root, credential_aad(head, user_id, credential_id)), b"")


def new_password(
    secrets: ServerSecrets,
    user_id: UserId,
    password: bytes,
    root: Secret,
    *,
    rounds: int,
    created: int,
    like: CredentialHead | None = None,
) -> CredentialRow:
    """The credential of a human password; slow, for a thread. Raises `ValueError` for an empty one.

    ``like`` gives scopes, expiry and networks of the credential that it replaces.
    """
    if not password:
        raise ValueError("the password is empty")
    salt = new_salt()
    head = CredentialHead(
        Kind.PASSWORD, KDF_BCRYPT, secrets.pepper_id, rounds, salt, bytes(32), MAIL_SCOPES | Scope.MANAGE, created
    )
    if like is not None:
        head = replace(head, scopes=like.scopes, expires=like.expires, networks=like.networks)
    material = stretch(password_octets(password), KDF_BCRYPT, salt, rounds)
    return _seal(secrets, user_id, SINGLE_PASSWORD_ID, head, material, root)


def under_newest_pepper(
    secrets: ServerSecrets, keyed: Keyed, material: bytes, root: Secret, *, expires: int | None = None
) -> CredentialRow:
    """A credential as it is but for its pepper, of which ``material`` was just proven; ``expires``: in place of its."""
    head = keyed.credential.head
    head = replace(head, pepper_id=secrets.pepper_id, expires=head.expires if expires is None else expires)
    made = _seal(secrets, keyed.user_id, keyed.credential_id, head, material, root)
    return replace(made, label=keyed.credential.label)


@dataclass(frozen=True, slots=True)
class NewCode:
    """A device password, recovery or pickup code with its row; ``code.text`` is shown once."""

    credential_id: CredentialId
    row: CredentialRow
    code: Code = field(repr=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a way in may be used for, from where, and until when."""

    scopes: Scope = MAIL_SCOPES
    networks: tuple[str, ...] = ()
    """Such as ``192.0.2.0/24``; none: from anywhere."""
    expires: int = 0
    """Seconds since 1970; 0: never."""


ANYWHERE = Limits()
SUBMIT_ONLY = Limits(Scope.SUBMIT)


def limits_for(role: Role) -> Limits:
    """What a device password of such an account opens unless somebody says less."""
    return SUBMIT_ONLY if role is Role.APP else ANYWHERE


def networks_of(head: CredentialHead) -> tuple[str, ...]:
    """From where a credential may be used; none: from anywhere."""
    return tuple(head.networks.decode("ascii").split("\n")) if head.networks else ()


def in_words(head: CredentialHead) -> str:
    """What limits a credential, for the audit log."""
    words = ["scopes " + "+".join(scope_names(head.scopes))]
    if head.networks:
        words.append("networks " + " ".join(networks_of(head)))
    if head.expires:
        words.append(f"expires {datetime.fromtimestamp(head.expires, UTC):%Y-%m-%dT%H:%M:%SZ}")
    return ", ".join(words)


def scope_names(scopes: Scope) -> tuple[str, ...]:
    """Such as ``imap-read`` and ``submit``."""
    return tuple((one.name or "").lower().replace("_", "-") for one in Scope if one in scopes)


def new_code(
    secrets: ServerSecrets,
    user_id: UserId,
    root: Secret,
    kind: Kind,
    *,
    created: int,
    taken: Callable[[CredentialId], bool] = lambda _: False,
    limits: Limits = ANYWHERE,
) -> NewCode:
    """A device password (within ``limits``) or recovery code (manage only) with an id that is not ``taken``."""
    credential_id = CredentialId(int.from_bytes(os.urandom(4), "big") % DEVICE_IDS)
    while taken(credential_id):
        credential_id = CredentialId((credential_id + 1) % DEVICE_IDS)
    code = new_device_password(credential_id)
    limits = Limits(Scope.MANAGE) if kind is Kind.RECOVERY else limits
    head = CredentialHead(
        kind,
        KDF_NONE,
        secrets.pepper_id,
        0,
        bytes(16),
        bytes(32),
        limits.scopes,
        created,
        limits.expires,
        "\n".join(limits.networks).encode("ascii"),
    )
    return NewCode(credential_id, _seal(secrets, user_id, credential_id, head, code.material, root), code)


def new_pickup(secrets: ServerSecrets, user_id: UserId, root: Secret, *, created: int, expires: int) -> NewCode:
    """A guest's pickup code (KEYS section 4): until ``expires`` (seconds since 1970) it does what a password does.

    Some 30 ms of hashing, which lets other threads run.
    """
    code, salt = new_pickup_code(), new_salt()
    head = CredentialHead(
        Kind.PICKUP,
        KDF_BCRYPT,
        secrets.pepper_id,
        PICKUP_ROUNDS,
        salt,
        bytes(32),
        MAIL_SCOPES,
        created,
        expires,
    )
    material = stretch(code.material, KDF_BCRYPT, salt, PICKUP_ROUNDS)
    return NewCode(PICKUP_ID, _seal(secrets, user_id, PICKUP_ID, head, material, root), code)


def with_label(row: CredentialRow, credential_id: CredentialId, label: str, keys: KeyRing) -> CredentialRow:
    """The row with a name such as ``phone``, which only the user's keys show. Raises `ValueError` above 200 octets."""
    octets = label.encode("utf-8")
    if len(octets) > MAX_LABEL_OCTETS:
        raise ValueError("the name is longer than 200 octets")
    return replace(row, label=keys.seal_names(LABEL_RECORD, credential_place(credential_id), octets))


def label_of(row: CredentialRow, credential_id: CredentialId, keys: KeyRing) -> str:
    """The name given to a credential; empty without one. Raises `SealBroken`."""
    if not row.label:
        return ""
    return keys.open_names(LABEL_RECORD, credential_place(credential_id), row.label).decode("utf-8", "replace")
