"""One user's keys: made once, unlocked by any credential, held by his sessions, overwritten when the last is gone."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from hmac import compare_digest
from threading import Lock
from types import TracebackType

from certmaild.keystore.errors import KeysClosed, PublicKeySwapped, SealBroken
from certmaild.keystore.primitives import (
    KEY_OCTETS,
    SEED_OCTETS,
    SUITE,
    Aead,
    Label,
    PrivateKey,
    aead,
    expand,
    hpke_open,
    mac_sha256,
    open_with,
    prefixed,
    private_key,
    public_octets,
    seal_with,
)
from certmaild.keystore.sealing import (
    HEADER,
    TYPE_EPOCH,
    TYPE_IDENTITY,
    PublicKey,
    check_public_key,
    open_card,
    public_key_body,
    public_key_id,
    seal_arrival,
    seal_bequest,
    seal_card,
    split_bequest,
    split_public_key,
)
from certmaild.keystore.secret import Secret
from certmaild.keystore.server_secrets import ServerSecrets

__all__ = [
    "KeyRing",
    "NewUser",
    "PublicKey",
    "check_public_key",
    "create_user_keys",
    "open_card",
    "seal_arrival",
    "seal_bequest",
    "seal_card",
    "unlock",
]

FIRST_EPOCH = 1
_HEADER_OCTETS = HEADER.size


class KeyRing:
    """One user's unlocked keys, shared by his sessions.

    Whoever made it owns one reference and drops it with `close`; each ``with ring:`` holds another meanwhile. When
    none is left the keys are overwritten, and from then on everything raises `KeysClosed`. Safe to use in threads.
    """

    def __init__(
        self,
        user_id: bytes,
        epochs: Mapping[int, Secret],
        seeds: Mapping[int, Secret],
        root: Secret | None = None,
    ) -> None:
        """``root`` is copied: a ring that has it can make further ways in (KEYS section 11)."""
        self.user_id = user_id
        self._root = None if root is None else Secret(bytes(root.reveal()))
        self.epoch = max(epochs)
        """Under which new values are sealed."""
        self._epochs = dict(epochs)
        self._seeds = dict(seeds)
        self._lock = Lock()
        self._holds = 0
        self._owned = True
        self._names: dict[int, Aead] = {}
        self._entries: dict[tuple[int, bytes], Aead] = {}
        self._kids: dict[bytes, Secret] = {}
        """The seed behind each key id, once one was asked for."""
        self._private: dict[bytes, PrivateKey] = {}

    def __repr__(self) -> str:
        return f"KeyRing({self.user_id.hex()[:8]}…, {'closed' if self.closed else 'open'})"

    # Life.

    @property
    def closed(self) -> bool:
        """The keys are gone."""
        return not self._epochs

    def __enter__(self) -> "KeyRing":
        with self._lock:
            if not self._owned:
                raise KeysClosed("the key ring was closed")
            self._holds += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._holds -= 1
            if not self._owned and not self._holds:
                self._wipe()

    def close(self) -> None:
        """Drop the owner's reference; may be called more than once. Nobody can take hold of the ring from now on."""
        with self._lock:
            self._owned = False
            if not self._holds:
                self._wipe()

    def _wipe(self) -> None:
        for secret in (*self._epochs.values(), *self._seeds.values()):
            secret.wipe()
        if self._root is not None:
            self._root.wipe()
            self._root = None
        self._epochs.clear()
        self._seeds.clear()
        self._names.clear()
        self._entries.clear()
        self._kids.clear()
        self._private.clear()

    def root(self) -> Secret:
        """A copy of the root key, for making a way in; the caller wipes it. Raises `KeysClosed`."""
        with self._lock:
            if self._root is None:
                raise KeysClosed("the key ring holds no root key")
            return Secret(bytes(self._root.reveal()))

    # Folder table, heads, labels: one key an epoch.

    def _names_aead(self, epoch: int) -> Aead:
        with self._lock:
            cipher = self._names[epoch] = aead(expand(self._epoch_key(epoch), Label.NAMES))
        return cipher

    def _epoch_key(self, epoch: int) -> bytearray:
        if not self._epochs:
            raise KeysClosed("the key ring was closed")
        try:
            return self._epochs[epoch].reveal()
        except KeyError:
            raise SealBroken("a value of an epoch that has no key") from None

    def seal_names(self, record: int, place: bytes, plaintext: bytes) -> bytes:
        """Seal a record of type ``record`` (0x10 to 0xFF) that stands at ``place``, under the names key."""
        epoch = self.epoch
        cipher = self._names.get(epoch) or self._names_aead(epoch)
        header = HEADER.pack(SUITE, record, epoch, 0)
        return header + seal_with(cipher, plaintext, header + self.user_id + prefixed(place))

    def open_names(self, record: int, place: bytes, value: bytes) -> bytes:
        """Inverse of `seal_names`. Raises `SealBroken`, `KeysClosed`."""
        epoch = _epoch_of(record, value)
        cipher = self._names.get(epoch) or self._names_aead(epoch)
        return open_with(cipher, value, _HEADER_OCTETS, value[:_HEADER_OCTETS] + self.user_id + prefixed(place))

    # Pages and gone rows: one key an epoch and folder.

    def _entry_aead(self, epoch: int, box_id: bytes) -> Aead:
        with self._lock:
            cipher = aead(expand(self._epoch_key(epoch), Label.ENTRY, prefixed(box_id)))
            self._entries[epoch, box_id] = cipher
        return cipher

    def seal_entries(self, record: int, box_id: bytes, place: bytes, plaintext: bytes) -> bytes:
        """Seal entries of one folder, of type ``record``, that stand at ``place`` in it, under the folder's key."""
        epoch = self.epoch
        cipher = self._entries.get((epoch, box_id)) or self._entry_aead(epoch, box_id)
        header = HEADER.pack(SUITE, record, epoch, 0)
        return header + seal_with(cipher, plaintext, header + self.user_id + box_id + prefixed(place))

    def open_entries(self, record: int, box_id: bytes, place: bytes, value: bytes) -> bytes:
        """Inverse of `seal_entries`. Raises `SealBroken`, `KeysClosed`."""
        epoch = _epoch_of(record, value)
        cipher = self._entries.get((epoch, box_id)) or self._entry_aead(epoch, box_id)
        aad = value[:_HEADER_OCTETS] + self.user_id + box_id + prefixed(place)
        return open_with(cipher, value, _HEADER_OCTETS, aad)

    # Arrivals.

    def open_arrival(self, kid: bytes, info: bytes, sealed: bytes) -> bytes:
        """The card in an arrival; about 70 us. Raises `SealBroken` (also for a kid that is not ours), `KeysClosed`."""
        key = self._private.get(kid) or self._private_key(kid)
        return hpke_open(key, info, sealed)

    def open_bequest(self, user_id: bytes, value: bytes) -> Secret:
        """Another user's root key that was sealed to this one (`seal_bequest`). Raises `SealBroken`, `KeysClosed`."""
        return Secret(self.open_arrival(*split_bequest(value, self.user_id, user_id)))

    def rest(self) -> None:
        """Let go of the private keys, 8 KiB each, until an arrival needs one, which makes it anew from its seed."""
        with self._lock:
            self._private.clear()

    def _private_key(self, kid: bytes) -> PrivateKey:
        with self._lock:
            if not self._epochs:
                raise KeysClosed("the key ring was closed")
            if not self._kids:
                self._kids = {public_key_id(public_octets(seed.reveal())): seed for seed in self._seeds.values()}
            try:
                key = self._private[kid] = private_key(self._kids[kid].reveal())
                return key
            except KeyError:
                raise SealBroken("an arrival sealed to a key that is not this user's") from None


def _epoch_of(record: int, value: bytes) -> int:
    """Check the header of a value under the user's keys; its epoch."""
    if len(value) < _HEADER_OCTETS:
        raise SealBroken("a sealed value is cut off")
    suite, found, epoch, slot = HEADER.unpack_from(value)
    if suite != SUITE or found != record or slot:
        raise SealBroken("a sealed value of another suite, type or slot")
    return int(epoch)


@dataclass(frozen=True, slots=True)
class NewUser:
    """A new user's keys and the rows that keep them. Wrap the root key in credentials, then wipe it."""

    user_id: bytes
    root: Secret
    keys: KeyRing
    epoch: int
    epoch_row: bytes = field(repr=False)
    ident_row: bytes = field(repr=False)
    public_key_row: bytes = field(repr=False)


def create_user_keys(secrets: ServerSecrets, user_id: bytes | None = None) -> NewUser:
    """Draw a root key, the first epoch key and the first X-Wing pair. Values only; the store writes the rows."""
    user_id = os.urandom(16) if user_id is None else user_id
    root, epoch_key, seed = (Secret(os.urandom(size)) for size in (KEY_OCTETS, KEY_OCTETS, SEED_OCTETS))
    epoch = FIRST_EPOCH
    body = public_key_body(epoch, public_octets(seed.reveal()))
    body += mac_sha256(expand(root.reveal(), Label.PUBLIC_MAC), user_id + body)
    return NewUser(
        user_id,
        root,
        KeyRing(user_id, {epoch: epoch_key}, {epoch: seed}, root),
        epoch,
        _wrap(expand(root.reveal(), Label.EPOCHS), TYPE_EPOCH, epoch, user_id, epoch_key),
        _wrap(expand(epoch_key.reveal(), Label.IDENTITY), TYPE_IDENTITY, epoch, user_id, seed),
        body + secrets.public_key_mac(user_id, body),
    )


def unlock(
    user_id: bytes,
    root: Secret,
    epoch_rows: Mapping[int, bytes],
    ident_rows: Mapping[int, bytes],
    public_key_row: bytes,
) -> KeyRing:
    """The key ring behind a root key; the rows are by epoch number. The root key is the caller's to wipe.

    Raises `SealBroken` for a changed row, `PublicKeySwapped` when the public key is not what this user made.
    """
    if not epoch_rows:
        raise SealBroken("a user without an epoch")
    root_key = root.reveal()
    epochs_key = expand(root_key, Label.EPOCHS)
    epochs = {n: _unwrap(epochs_key, TYPE_EPOCH, n, user_id, row) for n, row in epoch_rows.items()}
    seeds = {}
    for n, row in ident_rows.items():
        if n not in epochs:
            raise SealBroken("an identity of an epoch that has no key")
        seeds[n] = _unwrap(expand(epochs[n].reveal(), Label.IDENTITY), TYPE_IDENTITY, n, user_id, row)
    _check_own_public_key(root_key, user_id, max(epochs), public_key_row)
    return KeyRing(user_id, epochs, seeds, root)


def _check_own_public_key(root_key: bytearray, user_id: bytes, epoch: int, row: bytes) -> None:
    try:
        body, user_mac, _ = split_public_key(row)
    except SealBroken as broken:
        raise PublicKeySwapped(str(broken)) from broken
    if not compare_digest(mac_sha256(expand(root_key, Label.PUBLIC_MAC), user_id + body), user_mac):
        raise PublicKeySwapped("the stored public key was not made by this user")
    if HEADER.unpack_from(body)[2] != epoch:
        raise PublicKeySwapped("the stored public key is of another epoch")


def _wrap(key: bytes, kind: int, epoch: int, user_id: bytes, secret: Secret) -> bytes:
    header = HEADER.pack(SUITE, kind, epoch, 0)
    return header + seal_with(aead(key), secret.reveal(), header + user_id)


def _unwrap(key: bytes, kind: int, epoch: int, user_id: bytes, row: bytes) -> Secret:
    header = HEADER.pack(SUITE, kind, epoch, 0)
    if row[:_HEADER_OCTETS] != header:
        raise SealBroken("a key row stands in another's place")
    return Secret(open_with(aead(key), row, _HEADER_OCTETS, header + user_id))
