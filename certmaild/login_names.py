"""Whose name was typed: a whole address, or the part before ``@`` alone, which some mail programs try first."""

from collections.abc import Iterator, Sequence

from certmaild.mailbox.account_rows import Target, find_address
from certmaild.mailbox.addresses import Address, canonical
from certmaild.mailbox.errors import AddressError
from certmaild.mailbox.interfaces import ReadTxn


def addresses_of(username: bytes, domains: Sequence[str]) -> list[Address]:
    """The addresses that may be meant: the one that was typed, or the name in each of the ``domains``."""
    typed = [username] if b"@" in username else [username + b"@" + one.encode("ascii") for one in domains]
    return list(_valid(typed))


def _valid(texts: Sequence[bytes]) -> Iterator[Address]:
    for text in texts:
        try:
            yield canonical(text)
        except AddressError:
            continue


def find_only(txn: ReadTxn, addresses: Sequence[Address]) -> Target | None:
    """The account that has one of them; None when nobody has, or when two accounts do.

    All are looked up in any case, so that how long it takes says nothing.
    """
    targets = [find_address(txn, one) for one in addresses]
    found = {target.user_id: target for target in targets if target is not None}
    return next(iter(found.values())) if len(found) == 1 else None
