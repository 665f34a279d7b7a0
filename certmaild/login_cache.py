"""Proven human passwords, for a few minutes, so that a poller does not cost a slow hash each time (KEYS section 11).

In memory only. The key of an entry is a fast hash under secrets of this process, so a memory dump is no fast oracle for
passwords; an entry counts only while the stored account and credential rows are still the same.
"""

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

from certmaild.keystore.primitives import mac_sha256, password_kdf
from certmaild.keystore.users import KeyRing
from certmaild.mailbox.identifiers import CredentialId, UserId

IDLE_S = 600
HARD_S = 8 * 3600
ENTRIES = 4096


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

    def __init__(self, held: HeldKeys, seconds: Callable[[], float], *, entries: int = ENTRIES) -> None:
        self._held = held
        self._seconds = seconds
        self._entries = entries
        self._salt = os.urandom(16)
        self._key = os.urandom(32)
        self._cached: OrderedDict[bytes, Cached] = OrderedDict()

    def key_for(self, who: bytes, password: bytes) -> bytes:
        """The key of an entry; about 4 ms, for a thread."""
        return mac_sha256(self._key, password_kdf(password or b"\0", self._salt, 1) + who)

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
        return entry

    def put(self, key: bytes, user_id: UserId, credential_id: CredentialId, stamp: bytes) -> None:
        """Remember a proven password of a user whose keys are held."""
        self.drop(key)
        if self._held.take(user_id) is None:
            return
        now = self._seconds()
        self._cached[key] = Cached(user_id, credential_id, digest_of(stamp), now, now)
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
