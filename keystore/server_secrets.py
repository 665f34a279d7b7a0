"""The server's own secrets: files beside the store, never inside it, made once and never silently again."""

import os
import shutil
from collections.abc import Mapping
from hmac import compare_digest
from pathlib import Path
from struct import Struct

from certmaild.keystore.errors import SealBroken, SecretsExposed, SecretsMissing
from certmaild.keystore.primitives import (
    KEY_OCTETS,
    SUITE,
    Aead,
    Label,
    aead,
    expand,
    mac_sha256,
    open_with,
    seal_with,
)

FILES = ("pepper-1", "delivery", "rows", "queue")
"""32 octets each. A newer pepper is ``pepper-2``, kept beside the older while credentials use that."""
_PEPPER = "pepper-"
_CHECK_OCTETS = 16
_U64 = Struct(">Q")
_HEADER = Struct(">BBII")
"""suite, type, epoch, slot: what every server-sealed row begins with."""
_ROW, _QUEUE_ROW = 0x05, 0x09


class RowSeals:
    """Seals rows that the server reads alone, under one root: a key for each table, each row bound to its place."""

    def __init__(self, root: bytes, label: Label, kind: int) -> None:
        self._root = root
        self._label = label
        self._header = _HEADER.pack(SUITE, kind, 0, 0)
        self._tables: dict[str, tuple[Aead, bytes]] = {}

    def __repr__(self) -> str:
        return "RowSeals(…)"

    def _table(self, table: str) -> tuple[Aead, bytes]:
        place = str(table).encode("ascii")
        found = (aead(expand(self._root, self._label, place)), self._header + place + b"\0")
        self._tables[table] = found
        return found

    def seal_row(self, table: str, key: bytes, plaintext: bytes) -> bytes:
        """A row bound to its table and key: header, nonce, AES-256-GCM-SIV."""
        cipher, place = self._tables.get(table) or self._table(table)
        return self._header + seal_with(cipher, plaintext, place + key)

    def open_row(self, table: str, key: bytes, value: bytes) -> bytes:
        """Inverse of `seal_row`. Raises `SealBroken` for a changed or moved row."""
        if value[: len(self._header)] != self._header:
            raise SealBroken("not a server-sealed row of suite 1")
        cipher, place = self._tables.get(table) or self._table(table)
        return open_with(cipher, value, len(self._header), place + key)


class QueueSeals(RowSeals):
    """Seals the rows of mail on its way out, and names destinations so that only this server knows which they are."""

    def __init__(self, root: bytes) -> None:
        super().__init__(root, Label.QUEUE, _QUEUE_ROW)
        self._places = expand(root, Label.PLACES)

    def __repr__(self) -> str:
        return "QueueSeals(…)"

    def place_hash(self, place: bytes) -> bytes:
        """16 octets that stand for a destination, or a pair of sender and destination, in the clear part of keys."""
        return mac_sha256(self._places, place)[:16]


class ServerSecrets:
    """What the server knows without any user: it peppers passwords, MACs arrivals and keys, seals its own rows."""

    def __init__(self, secrets: Mapping[str, bytes]) -> None:
        """``secrets`` by file name; all of `FILES` must be there. Raises `SecretsMissing`."""
        for name in FILES:
            if len(secrets.get(name, b"")) != KEY_OCTETS:
                raise SecretsMissing(f"the server secret {name} is missing or has not {KEY_OCTETS} octets")
        self._secrets = dict(secrets)
        self._peppers = {
            int(name.removeprefix(_PEPPER)): secret
            for name, secret in secrets.items()
            if name.startswith(_PEPPER) and len(secret) == KEY_OCTETS
        }
        self.pepper_id = max(self._peppers)
        """The pepper that new credentials use."""
        self._delivery = self._secrets["delivery"]
        self._rows = RowSeals(self._secrets["rows"], Label.ROWS, _ROW)
        self.seal_row = self._rows.seal_row
        self.open_row = self._rows.open_row
        self.queue = QueueSeals(self._secrets["queue"])
        """Seals mail on its way out."""
        self._trace_key = expand(self._secrets["rows"], Label.TRACE)
        self._heard_key = expand(self._secrets["rows"], Label.HEARD)
        self._account_name_key = expand(self._secrets["rows"], Label.ACCOUNT_NAME)

    def __repr__(self) -> str:
        return "ServerSecrets(…)"

    @classmethod
    def create(cls, directory: Path) -> "ServerSecrets":
        """Make the secrets in a directory that does not exist yet or is empty, whole or not at all.

        The directory gets mode 0700 and its files 0600; all is synced to disk. Raises `FileExistsError`.
        """
        if directory.exists() and any(directory.iterdir()):
            raise FileExistsError(f"{directory} holds server secrets already")
        directory.parent.mkdir(parents=True, exist_ok=True)
        fresh = directory.with_name(f".{directory.name}.{os.urandom(8).hex()}")
        fresh.mkdir(mode=0o700)
        try:
            for name in FILES:
                _write_new(fresh / name, os.urandom(KEY_OCTETS))
            _sync_directory(fresh)
            fresh.rename(directory)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        _sync_directory(directory.parent)
        return cls.load(directory)

    @classmethod
    def load(cls, directory: Path) -> "ServerSecrets":
        """Read the secrets. Raises `SecretsMissing` or `SecretsExposed`, whose text names the file."""
        names = set(FILES)
        if directory.is_dir():
            names |= {path.name for path in directory.glob(_PEPPER + "*") if path.name.removeprefix(_PEPPER).isdigit()}
        return cls({name: _read(directory / name) for name in sorted(names)})

    def check_values(self) -> dict[str, bytes]:
        """By secret, 16 octets that show in the store's ``meta`` which secret it was made with, and not the secret."""
        return {name: expand(key, Label.CHECK, length=_CHECK_OCTETS) for name, key in sorted(self._secrets.items())}

    def verify(self, stored: Mapping[str, bytes]) -> None:
        """Compare with the check values of the store. Raises `SecretsMissing`, whose text names the secret."""
        own = self.check_values()
        for name, value in stored.items():
            if name not in own:
                raise SecretsMissing(f"the server secret {name}, with which the store was made, is missing")
            if not compare_digest(own[name], value):
                raise SecretsMissing(
                    f"the server secret {name} is not the one with which the store was made: put that one back"
                )

    def pepper(self, pepper_id: int) -> bytes:
        """The pepper of a credential. Raises `SecretsMissing` when it was removed too early."""
        try:
            return self._peppers[pepper_id]
        except KeyError:
            raise SecretsMissing(f"the server secret {_PEPPER}{pepper_id} is missing") from None

    def unknown_salt(self, name: bytes) -> bytes:
        """The salt for a log-in under a name that does not exist: 16 octets, the same at every try."""
        return expand(self._peppers[self.pepper_id], Label.UNKNOWN, name, length=16)

    def dtag(self, user_id: bytes, seq: int, previous: bytes, digest: bytes) -> bytes:
        """Bind an arrival to its place in the user's queue.

        ``previous`` is the dtag before it, ``digest`` the SHA-256 of all octets of the row before its own dtag.
        """
        return mac_sha256(self._delivery, b"dtag" + user_id + _U64.pack(seq) + previous + digest)

    def public_key_mac(self, user_id: bytes, body: bytes) -> bytes:
        """Show that a public key record was stored by this server, so that a tamperer of the disk plants none."""
        return mac_sha256(self._delivery, b"pubkey" + user_id + body)

    def trace_hash(self, address: str) -> str:
        """What stands in the log for an outside address: 16 hexadecimal digits that only this server can compute."""
        return mac_sha256(self._trace_key, address.encode("utf-8", "surrogateescape"))[:8].hex()

    def heard_hash(self, whose: bytes, address: bytes) -> bytes:
        """What stands in the store for an address that one user knows: 16 octets that only this server can compute."""
        return mac_sha256(self._heard_key, whose + address)[:16]

    def account_name_hash(self, address: bytes, number: int) -> bytes:
        """32 octets that tell two guests' account names apart; ``number`` gives others for the same address."""
        return mac_sha256(self._account_name_key, _U64.pack(number) + address)


def _write_new(path: Path, octets: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(descriptor)


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise SecretsMissing(f"the server secret {path} is missing: put back the copy made for this store") from None
    except OSError as fault:
        raise SecretsMissing(f"the server secret {path} cannot be read: {fault.strerror}") from None
    with open(descriptor, "rb") as file:
        if os.fstat(descriptor).st_mode & 0o077:
            raise SecretsExposed(f"the server secret {path} can be read by others; it must have mode 0600")
        octets = file.read(KEY_OCTETS + 1)
    if len(octets) != KEY_OCTETS:
        raise SecretsMissing(f"the server secret {path} has not {KEY_OCTETS} octets")
    return octets


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
