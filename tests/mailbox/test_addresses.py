"""The one canonical form of an address."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmaild.mailbox.addresses import canonical, canonical_domain, unicode_domain
from certmaild.mailbox.errors import AddressError


@pytest.mark.parametrize(
    ("given_text", "lookup"),
    [
        ("alice@example.com", "alice@example.com"),
        ("Alice@EXAMPLE.com", "alice@example.com"),
        ('"alice"@example.com', "alice@example.com"),
        ('"al\\ice"@example.com', "alice@example.com"),
        ('"alice smith"@example.com', '"alice smith"@example.com'),
        ('"a\\"b"@example.com', '"a\\"b"@example.com'),
        ('"a@b"@example.com', '"a@b"@example.com'),
        ("josé@example.com", "josé@example.com"),
        ("jose\u0301@example.com", "josé@example.com"),
        ("STRASSE@example.com", "strasse@example.com"),
        ("straße@example.com", "strasse@example.com"),
        ("alice@Bücher.example", "alice@xn--bcher-kva.example"),
        ("alice@XN--BCHER-KVA.example", "alice@xn--bcher-kva.example"),
        ("alice@faß.de", "alice@xn--fa-hia.de"),
        ("alice@例え。テスト", "alice@xn--r8jz45g.xn--zckzah"),
        ("alice@localhost", "alice@localhost"),
        ("alice@[192.0.2.1]", "alice@[192.0.2.1]"),
        ("alice@[IPV6:2001:DB8:0:0::1]", "alice@[IPv6:2001:db8::1]"),
        (b"alice@example.com", "alice@example.com"),
        ("josé@example.com".encode(), "josé@example.com"),
        ("a" * 120 + "@example.com", "a" * 120 + "@example.com"),
    ],
)
def test_look_up_form(given_text: str | bytes, lookup: str) -> None:
    assert canonical(given_text).lookup == lookup


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice",
        "@example.com",
        "alice@",
        "alice@example.com.",
        "alice@example..com",
        "alice@-example.com",
        "alice@exa mple.com",
        "al ice@example.com",
        ".alice@example.com",
        "alice.@example.com",
        "al..ice@example.com",
        '"alice@example.com',
        'al"ice@example.com',
        '""@example.com',
        "alice\r\n@example.com",
        '"ali\0ce"@example.com',
        "alice\x00@example.com",
        "ali\u202ece@example.com",
        "ali\ud800ce@example.com",
        "alice@192.0.2.1",
        "alice@[192.0.2.256]",
        "alice@[IPv6:192.0.2.1]",
        "alice@[IPv6:fe80::1%eth0]",
        "alice@[192.0.2.1",
        "alice@xn--a.example",
        "alice@" + "a" * 64 + ".com",
        "a" * 250 + "@example.com",
        b"\xff@example.com",
    ],
)
def test_refuses(text: str | bytes) -> None:
    with pytest.raises(AddressError):
        canonical(text)


def test_length_counts_octets_at_the_limit_and_one_past_it() -> None:
    longest = "a" * (254 - len("@example.com")) + "@example.com"
    assert canonical(longest).lookup == longest
    with pytest.raises(AddressError):
        canonical("a" + longest)
    with pytest.raises(AddressError):
        canonical("é" * 122 + "@example.com")


def test_tag() -> None:
    tagged = canonical("Alice+Lists@Example.com")
    assert tagged.detail == "Lists"
    assert tagged.base == canonical("alice@example.com")
    assert tagged.lookup == "alice+lists@example.com"
    assert tagged.display == "Alice+Lists@Example.com"
    assert canonical("alice@example.com").detail is None
    assert canonical("+x@example.com").detail is None
    assert canonical("+x@example.com").base == canonical("+x@example.com")
    assert canonical("alice+@example.com").detail == ""


def test_wire_and_smtputf8() -> None:
    assert canonical('"Alice"@Bücher.example').wire == "Alice@xn--bcher-kva.example"
    assert not canonical("alice@Bücher.example").needs_smtputf8
    assert canonical("josé@example.com").needs_smtputf8


def test_domains() -> None:
    assert canonical_domain("MAIL.Example") == "mail.example"
    assert unicode_domain("xn--bcher-kva.example") == "bücher.example"


LOCAL = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(LOCAL)
def test_the_look_up_form_is_its_own(local: str) -> None:
    """Looking up what was stored finds it again; nothing but `AddressError` is raised."""
    for text in (f"{local}@example.com", '"{}"@example.com'.format(local.replace("\\", "\\\\").replace('"', '\\"'))):
        try:
            address = canonical(text)
        except AddressError:
            continue
        assert canonical(address.lookup).lookup == address.lookup
        assert canonical(address.wire).lookup == address.lookup


@given(st.text(max_size=30) | st.binary(max_size=30))
def test_garbage(text: str | bytes) -> None:
    with contextlib.suppress(AddressError):
        canonical(text)


def test_every_character_folds_to_a_fixed_point() -> None:
    for code in (*range(0x80, 0xD800), *range(0xE000, 0x30000)):
        try:
            lookup = canonical(f"a{chr(code)}\u0345b@example.com").lookup
        except AddressError:
            continue
        assert canonical(lookup).lookup == lookup, hex(code)
