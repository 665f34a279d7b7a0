"""Lists of people: what is read, and every mistake with its line."""

import pytest

from certmaild.commands.people_file import Person, Wrong, parse_people
from certmaild.mailbox.layout_accounts import Role


def parse(text: str | bytes) -> list[Person]:
    octets = text.encode() if isinstance(text, str) else text
    return parse_people(octets, ("example.com", "example.org"), most_devices=3)


def mistakes(text: str | bytes) -> tuple[str, ...]:
    with pytest.raises(Wrong) as wrong:
        parse(text)
    return wrong.value.sentences


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("delimiter", [b",", b";"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_files_of_every_make(bom: bytes, delimiter: bytes, end: bytes) -> None:
    lines = (
        b"Address,Name,role,QUOTA,devices",
        b'Ann@Example.com,"Ann; the boss", admin, 5GiB,phone | desk',
        b"",
        b"b\xc3\xb6b@example.org,,,none,",
        b" , , , , ",
        b"bot@example.com,,APP,1048576,",
    )
    octets = bom + end.join(line.replace(b",", delimiter) for line in lines)
    ann, bob, bot = parse(octets)
    assert (ann.address.lookup, ann.name, ann.role, ann.octets_limit, ann.devices) == (
        "ann@example.com",
        "Ann; the boss",
        Role.ADMIN,
        5 * 2**30,
        ("phone", "desk"),
    )
    assert (bob.line, bob.address.lookup, bob.role, bob.octets_limit, bob.devices) == (
        4,
        "böb@example.org",
        Role.MEMBER,
        None,
        ("",),
    )
    assert (bot.line, bot.role, bot.octets_limit) == (6, Role.APP, 2**20)


def test_the_address_alone_is_enough() -> None:
    assert [one.address.lookup for one in parse("address\nann@example.com\nbob@example.com\n")] == [
        "ann@example.com",
        "bob@example.com",
    ]


def test_every_line_that_is_wrong_is_named_at_once() -> None:
    found = mistakes(
        "address,role,quota,devices\n"
        "ann@example.com,,,\n"
        "nonsense,,,\n"
        "ann@elsewhere.example,,,\n"
        "ann+tag@example.com,,,\n"
        '"quo\nted@example.com",,,\n'
        "ANN@example.com,,,\n"
        "b@example.com,king,,\n"
        "c@example.com,,much,\n"
        "d@example.com,,0,\n"
        "e@example.com,,,1|2|3|4\n"
        f"f@example.com,,,{'x' * 201}\n"
        "g@example.com\n"
        f"{'h' * 65}@example.com,,,\n"
    )
    assert [sentence.partition(":")[0] for sentence in found] == [
        f"Line {number}" for number in (3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15)
    ]
    words = (
        "address",
        "hosted",
        "tag",
        "not an address",
        "line 2 too",
        "no role",
        "quota",
        "quota",
        "4 devices",
        "longer",
    )
    for sentence, word in zip(found, words, strict=False):
        assert word in sentence, sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "Line 1: there is no column address"),
        ("mail,name\n", "Line 1: the column 'mail' is not known"),
        ("name\nAnn\n", "Line 1: there is no column address"),
        ("address,address\n", "Line 1: a column stands there twice"),
        ("address\n\n", "Nobody is in the file"),
        (b"address\nann@example.com\nb\xf6b@example.com\n", "Line 3: not UTF-8"),
        ("address\nann@example.com\n".encode("utf-16"), "Line 1: not UTF-8"),
        ("address\nann@example.com\n".encode("utf-16-le"), "Line 1: a NUL"),
        ('address\n"ann@example.com\n', "Line 2: a quotation mark"),
        ('address\n"ann"x@example.com\n', "Line 2: a quotation mark"),
    ],
)
def test_files_that_are_none(text: str | bytes, sentence: str) -> None:
    (found,) = mistakes(text)
    assert found.startswith(sentence)
