"""Our DKIM keys on disk: pairs named by the day they were made, and which of them signs.

``dkim/<pair>-ed25519.pem`` and ``dkim/<pair>-rsa.pem`` (mode 0600) in the data directory; ``dkim/signs`` holds the name
of the pair that signs. A selector is the name of its file. All hosted domains use the same pair.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import NamedTuple

from twisted.logger import Logger

from certmaild.keystore.certificates import write_file
from certmaild.keystore.errors import SignatureKeyUnfit
from certmaild.keystore.mail_signatures import KeyKind, MailSigningKey

log = Logger()

_FILE = re.compile(r"(\d{8}[a-z]?)-(ed25519|rsa)\.pem")
_LETTERS = "bcdefghijklmnopqrstuvwxyz"
"""For further pairs of a day."""
LOOK_S = 30.0
"""How often a running server looks whether another pair signs."""


class DkimKeysMissing(Exception):
    """There is no such pair; the text is a sentence."""


class SigningKey(NamedTuple):
    """A key and the name it is published under."""

    selector: str
    key: MailSigningKey


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An Ed25519 and an RSA key, published and used together."""

    name: str
    signs: bool
    keys: tuple[SigningKey, ...] = field(repr=False)

    def records(self, domain: str) -> list[tuple[str, str]]:
        """Owner names and texts of the TXT records that publish the pair for one domain (RFC 6376 section 3.6.1)."""
        return [
            (f"{selector}._domainkey.{domain}", f"v=DKIM1; k={key.kind.value}; p={key.public_text}")
            for selector, key in self.keys
        ]


def txt_strings(text: str) -> str:
    """A TXT record's text as zone files write it: strings of at most 255 octets, each in quotes."""
    return " ".join(f'"{text[at : at + 255]}"' for at in range(0, len(text), 255))


class KeyFiles:
    """The pairs of one server."""

    def __init__(self, data: Path) -> None:
        self._folder = data / "dkim"
        self._looked = float("-inf")
        self._seen: tuple[int, int] | None = None
        self._signing: KeyPair | None = None

    def pairs(self) -> list[KeyPair]:
        """All, oldest first. Raises `SignatureKeyUnfit`, whose text names the file."""
        names = sorted({match[1] for file in self._files() if (match := _FILE.fullmatch(file.name))})
        return [self._read(name) for name in names]

    def make(self, today: date) -> KeyPair:
        """A new pair; it signs if it is the first."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        taken = {pair.name for pair in self.pairs()}
        stem = f"{today:%Y%m%d}"
        name = next(one for one in (stem, *(stem + letter for letter in _LETTERS)) if one not in taken)
        for kind in KeyKind:
            write_file(self._folder / f"{name}-{kind.value}.pem", MailSigningKey.make(kind).pem, 0o600)
        if not taken:
            self.use(name)
        return self._read(name)

    def use(self, name: str) -> KeyPair:
        """Sign with this pair from now on; a running server does so within `LOOK_S`. Raises `DkimKeysMissing`."""
        if name not in {pair.name for pair in self.pairs()}:
            raise DkimKeysMissing(f"There is no pair of DKIM keys named {name}: look at certmaild dkim show.")
        write_file(self._folder / "signs", name.encode("ascii") + b"\n", 0o600)
        return self._read(name)

    def remove(self, name: str) -> None:
        """Forget a pair that does not sign. Raises `DkimKeysMissing`."""
        if name == self._name_that_signs():
            raise DkimKeysMissing(f"The pair {name} signs now: let another one sign first, with certmaild dkim use.")
        files = [file for file in self._files() if (match := _FILE.fullmatch(file.name)) and match[1] == name]
        if not files:
            raise DkimKeysMissing(f"There is no pair of DKIM keys named {name}: look at certmaild dkim show.")
        for file in files:
            file.unlink()

    def signing(self, now_s: float) -> Sequence[SigningKey]:
        """What to sign with; looks at the disk each `LOOK_S` and reads only what changed.

        Keys that cannot be read are told to the log, and the former ones, if any, go on being used.
        """
        if now_s - self._looked >= LOOK_S or now_s < self._looked:
            seen = self._mark()
            self._looked = now_s
            if seen != self._seen:
                self._seen = seen if self._read_signing() else None
        return () if self._signing is None else self._signing.keys

    def _read_signing(self) -> bool:
        """Whether it worked; else it is tried again."""
        name = self._name_that_signs()
        try:
            self._signing = None if name is None else self._read(name)
        except SignatureKeyUnfit as unfit:
            so = "unsigned" if self._signing is None else f"signed by the former pair, {self._signing.name}"
            log.error("outgoing mail is {so}: {unfit}", so=so, unfit=unfit)
            return False
        return True

    def _mark(self) -> tuple[int, int] | None:
        try:
            found = (self._folder / "signs").stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino

    def _files(self) -> list[Path]:
        return list(self._folder.iterdir()) if self._folder.is_dir() else []

    def _name_that_signs(self) -> str | None:
        try:
            return (self._folder / "signs").read_text("ascii").strip()
        except FileNotFoundError:
            return None

    def _read(self, name: str) -> KeyPair:
        keys = []
        for kind in KeyKind:
            file = self._folder / f"{name}-{kind.value}.pem"
            try:
                octets = file.read_bytes()
                if file.stat().st_mode & 0o077:
                    raise SignatureKeyUnfit("others than its owner may read it; chmod 600 makes that good")
                keys.append(SigningKey(file.stem, MailSigningKey.read(octets)))
            except (OSError, SignatureKeyUnfit) as fault:
                why = fault.strerror if isinstance(fault, OSError) else str(fault)
                raise SignatureKeyUnfit(f"the DKIM key {file}: {why}") from None
        return KeyPair(name, name == self._name_that_signs(), tuple(keys))
