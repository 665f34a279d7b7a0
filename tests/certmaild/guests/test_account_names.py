"""Names of guests' accounts: readable, safe in every mail program, never the same for two addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmaild.guests.account_names import account_name
from certmaild.keystore.server_secrets import FILES, ServerSecrets
from certmaild.mailbox.addresses import MAX_LOCAL_OCTETS, Address, canonical
from certmaild.mailbox.errors import AddressError

SECRETS = ServerSecrets(dict.fromkeys(FILES, bytes(32)))
DOMAIN = "guest.example.com"
SAFE = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")


def named(address: str, *taken: str) -> str:
    return account_name(canonical(address), DOMAIN, SECRETS, lambda name: name.lookup not in taken).local


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("bob@gmail.com", "bob.gmail.com"),
        ("Bob.Smith+work@GMail.com", "bob.smith.gmail.com"),
        ("b_o-b@x-y.example", "b_o-b.x-y.example"),
        ("bob@bücher.example", "bob.xn--bcher-kva.example"),
    ],
)
def test_a_readable_name(address: str, name: str) -> None:
    assert named(address) == name


@pytest.mark.parametrize(
    ("address", "start"),
    [
        ("jörg@far.example", "j-rg.far.example-"),
        ("o'neil@far.example", "o-neil.far.example-"),
        ('"a b"@far.example', "a-b.far.example-"),
        ('"..a"@far.example', "a.far.example-"),
        ("!@far.example", "far.example-"),
        (f"{'x' * 60}@far.example", "x" * 57 + "-"),
    ],
)
def test_what_is_not_safe_or_too_long_has_letters_behind_it(address: str, start: str) -> None:
    name = named(address)
    assert name.startswith(start)
    assert len(name) == len(start) + 6
    assert named(address.upper()) == name


def test_a_name_that_is_taken_has_others_behind_it() -> None:
    first = "a.b.c.example"
    second = named("a@b.c.example", f"{first}@{DOMAIN}")
    third = named("a@b.c.example", f"{first}@{DOMAIN}", f"{second}@{DOMAIN}")
    assert len({first, second, third}) == 3
    assert second != named("a.b@c.example", f"{first}@{DOMAIN}")
    other = ServerSecrets(dict.fromkeys(FILES, bytes([1]) * 32))
    assert account_name(canonical("o'x@c.example"), DOMAIN, other, lambda _: True).local != named("o'x@c.example")


@given(local=st.text(min_size=1, max_size=80), domain=st.sampled_from(["far.example", "x" * 60 + ".example"]))
def test_every_address_has_a_safe_name(local: str, domain: str) -> None:
    address: Address | None = None
    for text in (f"{local}@{domain}", f'"{local}"@{domain}'):
        try:
            address = canonical(text)
        except AddressError:
            continue
        name = account_name(address, DOMAIN, SECRETS, lambda _: True)
        assert set(name.local) <= SAFE
        assert len(name.local) <= MAX_LOCAL_OCTETS
        assert canonical(name.wire) == name
        assert name.detail is None
        assert name == account_name(address.base, DOMAIN, SECRETS, lambda _: True)
