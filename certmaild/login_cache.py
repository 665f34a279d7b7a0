"""Proven human passwords, for a few minutes, so that a poller does not cost a slow hash each time (KEYS section 11).

Keys are in memory only. The key of an entry is a fast hash under secrets of this process, so a memory dump is no fast
oracle for passwords; an entry counts only while the stored account and credential rows are still the same.

Workers share what a password was stretched to, sealed under that fast hash, so that a poller is hashed slowly once and
not once in each worker. It has to prove the credential as stored, like one just stretched.
"""

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from certmaild.keystore.errors import SealBroken
from certmaild.keystore.primitives import aead, mac_sha256, open_with, password_kdf, seal_with
from certmaild.keystore.users import KeyRing
from certmaild.mailbox.identifiers import CredentialId, UserId
from certmaild.mailbox.layout import decode_stretched, encode_stretched

IDLE_S = 600
HARD_S = 8 * 3600
ENTRIES = 4096
KEY_OCTETS = 48


class HeldKeys:
    """The unlocked keys of each user, shared by his sessions and cache entries; closed with the last of them."""

    def __init__(self) -> None:
        self._rings: dict[UserId, tuple[KeyRing, int]] = {}

    def hold(self, user_id: UserId, fresh: KeyRing) -> KeyRing:
        """The user's shared ring: the one already held (``fresh`` is closed then), else ``fresh``."""
        ring, holders = self._rings.get(user_id, (fresh, 0))
        if ring is not fresh:
            fresh.close()
        self._rings[user_id] = (ring, holders + 1)
        return ring

    def take(self, user_id: UserId) -> KeyRing | None:
        """One more holder of the ring, if the user has one."""
        if user_id not in self._rings:
            return None
        ring, holders = self._rings[user_id]
        self._rings[user_id] = (ring, holders + 1)
        return ring

    def release(self, user_id: UserId) -> None:
        """One holder less."""
        ring, holders = self._rings.pop(user_id)
        if holders > 1:
            self._rings[user_id] = (ring, holders - 1)
        else:
            ring.close()

    def __len__(self) -> int:
        return len(self._rings)


@dataclass(slots=True)
class Cached:
    """One proven password; it holds its user's keys."""

    user_id: UserId
    credential_id: CredentialId
    stamp: bytes
    """SHA-256 of the account and credential rows that it was proven against."""
    first: float
    last: float = field(default=0.0)


def digest_of(stamp: bytes) -> bytes:
    """What an entry keeps of the rows."""
    return sha256(stamp).digest()


class LoginCache:
    """Bounded, least recently used first out; ``seconds`` is any steady clock."""

    def __init__(
        self,
        held: HeldKeys,
        seconds: Callable[[], float],
        *,
        entries: int = ENTRIES,
        shared: "SharedLogins | None" = None,
    ) -> None:
        self._held = held
        self._shared = shared
        self._seconds = seconds
        self._entries = entries
        key = os.urandom(KEY_OCTETS) if shared is None else shared.key
        self._salt, self._key = key[:16], key[16:]
        self._cached: OrderedDict[bytes, Cached] = OrderedDict()

    def key_for(self, who: bytes, password: bytes) -> bytes:
        """The key of an entry; about 4 ms, for a thread."""
        fast = password_kdf(password or b"\0", self._salt, 1)
        return mac_sha256(self._key, fast + who) + mac_sha256(self._key, b"seal" + fast + who)

    def get(self, key: bytes) -> Cached | None:
        """The entry unless it is too old. The caller compares its stamp, and drops it when that changed."""
        entry = self._cached.get(key)
        if entry is None:
            return None
        now = self._seconds()
        if now - entry.last > IDLE_S or now - entry.first > HARD_S:
            self.drop(key)
            return None
        entry.last = now
        self._cached.move_to_end(key)
        if self._shared is not None:
            self._shared.touch(key)
        return entry

    def shared(self, key: bytes) -> "Stretched | None":
        """What another worker stretched this password to."""
        return None if self._shared is None else self._shared.get(key)

    def share(self, key: bytes, material: bytes) -> None:
        """Let the other workers have what a right password was stretched to."""
        if self._shared is not None:
            self._shared.put(key, Stretched(material, self._seconds()))

    def put(
        self, key: bytes, user_id: UserId, credential_id: CredentialId, stamp: bytes, *, first: float | None = None
    ) -> None:
        """Remember a proven password of a user whose keys are held; ``first``: when it was stretched, if not now."""
        self.drop(key)
        if self._held.take(user_id) is None:
            return
        now = self._seconds()
        self._cached[key] = Cached(user_id, credential_id, digest_of(stamp), now if first is None else first, now)
        while len(self._cached) > self._entries:
            self.drop(next(iter(self._cached)))

    def drop(self, key: bytes) -> None:
        """Forget an entry, if there is one."""
        entry = self._cached.pop(key, None)
        if entry is not None:
            self._held.release(entry.user_id)

    def sweep(self) -> None:
        """Forget what is too old, so that keys do not stay in memory because nobody asked."""
        now = self._seconds()
        for key, entry in tuple(self._cached.items()):
            if now - entry.last > IDLE_S or now - entry.first > HARD_S:
                self.drop(key)

    def clear(self) -> None:
        """Forget everything."""
        for key in tuple(self._cached):
            self.drop(key)

    def __len__(self) -> int:
        return len(self._cached)


@dataclass(frozen=True, slots=True)
class Stretched:
    """What a right password was stretched to, and when."""

    material: bytes = field(repr=False)
    first: float


class Sealed(Protocol):
    """Where processes keep sealed values for each other (`VolatileStore`)."""

    def put_sealed(self, name: bytes, value: bytes) -> None:
        """Keep a value, or another in its place."""
        ...

    def read_sealed(self, name: bytes) -> bytes | None:
        """A value."""
        ...

    def drop_sealed(self, name: bytes) -> None:
        """Remove a value."""
        ...


class SharedLogins:
    """Stretched passwords that the workers of one daemon share; ``key`` is known to them alone, in memory.

    A value is kept under one half of an entry's key and sealed under the other. ``seconds`` is one clock for all.
    """

    def __init__(self, sealed: Sealed, key: bytes, seconds: Callable[[], float]) -> None:
        self.key = key
        self._sealed = sealed
        self._seconds = seconds

    def put(self, key: bytes, stretched: Stretched) -> None:
        """Keep one."""
        name, plain = key[:32], encode_stretched(stretched.first, stretched.material)
        self._sealed.put_sealed(name, seal_with(aead(key[32:]), plain, name))

    def get(self, key: bytes) -> Stretched | None:
        """One that is not too old; it is fresh again then."""
        name = key[:32]
        value = self._sealed.read_sealed(name)
        if value is None:
            return None
        try:
            first, material = decode_stretched(open_with(aead(key[32:]), value, 0, name))
        except SealBroken:
            return None
        if self._seconds() - first > HARD_S:
            self._sealed.drop_sealed(name)
            return None
        self._sealed.put_sealed(name, value)
        return Stretched(material, first)

    def touch(self, key: bytes) -> None:
        """One is still in use."""
        value = self._sealed.read_sealed(key[:32])
        if value is not None:
            self._sealed.put_sealed(key[:32], value)
