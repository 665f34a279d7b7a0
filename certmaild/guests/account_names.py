"""What a guest's account is called: an address in our own domain, so that wizards of mail programs find our servers.

``bob@gmail.com`` becomes ``bob.gmail.com@guest.example.com``: to be read by people, never taken apart by a program. The
directory knows the pair.
"""

import re
from collections.abc import Callable, Iterator

from certmaild.keystore.codes import letters_of
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.addresses import MAX_LOCAL_OCTETS, Address, canonical

SUFFIX_LETTERS = 6
_UNSAFE = re.compile(r"[^a-z0-9._-]+")
_DOTS = re.compile(r"\.{2,}")
TRIES = 1000


def account_name(ordinary: Address, domain: str, secrets: ServerSecrets, is_free: Callable[[Address], bool]) -> Address:
    """The account name for an ordinary address, ``+tag`` left out, that ``is_free`` says nobody has or had."""
    for local in _candidates(ordinary.base, secrets):
        name = canonical(f"{local}@{domain}")
        if is_free(name):
            return name
    raise RuntimeError("no account name is free")


def _candidates(base: Address, secrets: ServerSecrets) -> Iterator[str]:
    """The readable name if it says exactly which address it is for and fits, then names with letters behind."""
    whole = f"{canonical(base.lookup).local}.{base.domain}"
    readable = _readable(whole)
    if readable == whole and len(readable) <= MAX_LOCAL_OCTETS:
        yield readable
    room = MAX_LOCAL_OCTETS - 1 - SUFFIX_LETTERS
    start = readable[:room].rstrip(".-") or "guest"
    for number in range(TRIES):
        yield f"{start}-{letters_of(secrets.account_name_hash(base.key, number), SUFFIX_LETTERS).lower()}"


def _readable(whole: str) -> str:
    return _DOTS.sub(".", _UNSAFE.sub("-", whole)).strip(".-")
