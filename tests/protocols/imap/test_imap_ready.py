"""FETCH of what is kept ready: the same octets the first time, again, and beside items that are read anew."""

import re
from pathlib import Path

import pytest
from imap_support import House, Line
from support import run

from certmaild.mailbox.layout import Table

COUNT = 300
"""More than a page."""
FIELDS = b'BODY.PEEK[HEADER.FIELDS (Subject "x%y" From)]'


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = House(tmp_path)
    for number in range(COUNT):
        text = f"From: ann@example.org\r\nSubject: grüß {number}\r\nX%Y: {number}\r\nOther: no\r\n\r\nbody {number}\r\n"
        house.deliver(text.encode())
    return house


def fetch(line: Line, items: bytes, numbers: bytes = b"1:*") -> bytes:
    answer = line.send(b"f FETCH %b %b\r\n" % (numbers, items))
    assert answer.endswith(b"f OK Completed.\r\n"), answer[-200:]
    return answer


def kept(house: House) -> int:
    return run(house.engine.read(lambda txn: len(list(txn.scan(Table.READY, b"")))))


@pytest.mark.parametrize(
    "items", [b"ENVELOPE", b"(UID FLAGS BODY BODYSTRUCTURE)", FIELDS, b"(UID RFC822.SIZE FLAGS %b ENVELOPE)" % FIELDS]
)
@pytest.mark.parametrize("enable", [b"", b"IMAP4rev2"])
def test_again_is_as_the_first_time(house: House, items: bytes, enable: bytes) -> None:
    line = house.select()
    if enable:
        line.send(b"e ENABLE %b\r\n" % enable)
    one_by_one = b"".join(
        fetch(line, items, b"%d" % number).removesuffix(b"f OK Completed.\r\n") for number in range(1, COUNT + 1)
    )
    assert not kept(house)
    first = fetch(line, items)
    assert first.removesuffix(b"f OK Completed.\r\n") == one_by_one
    assert kept(house)
    assert fetch(line, items) == first
    assert first.count(b" FETCH (") == COUNT


def test_the_values_are_each_messages_own(house: House) -> None:
    line = house.select()
    fetch(line, FIELDS)
    again = fetch(line, FIELDS)
    found = re.findall(
        rb'\* (\d+) FETCH \(BODY\[HEADER.FIELDS \(Subject "x%y" From\)\] \{\d+\}\r\n'
        rb"From: ann@example.org\r\nSubject: gr\xc3\xbc\xc3\x9f (\d+)\r\nX%Y: (\d+)\r\n\r\n\)",
        again,
    )
    assert [tuple(map(int, row)) for row in found] == [(number + 1, number, number) for number in range(COUNT)]


def test_after_an_expunge_the_page_is_made_anew(house: House) -> None:
    line = house.select()
    fetch(line, b"ENVELOPE")
    assert kept(house) == 2
    line.send(b"d STORE 5 +FLAGS.SILENT (\\Deleted)\r\n")
    line.send(b"x EXPUNGE\r\n")
    assert kept(house) == 1
    again = fetch(line, b"ENVELOPE")
    assert again.count(b" FETCH (") == COUNT - 1
    assert b' 4"' not in again
    assert kept(house) == 2


def test_with_a_body_beside_it_nothing_is_kept(house: House) -> None:
    line = house.select()
    answer = fetch(line, b"(ENVELOPE %b BODY.PEEK[TEXT])" % FIELDS)
    assert answer.count(b"Other: no") == 0
    assert answer.count(b"X%Y: ") == COUNT
    assert answer.count(b"body ") == COUNT
    assert not kept(house)


def test_a_read_that_sets_seen_does(house: House) -> None:
    line = house.select()
    answer = fetch(line, b"BODY[HEADER.FIELDS (Subject)]", b"1:40")
    assert answer.count(b"\\Seen") == 40
    assert not kept(house)


LISTED = b"From To Cc Subject References"
HEADERS = (
    b"From: a\r\nsubject : folded\r\n\tover\r\n lines\r\nTo: b\r\nto: again\r\nX: no\r\n",
    b" begins with a fold\r\nFrom: a\r\nno colon\r\nSubject:\r\n",
    b"X: none of them\r\n",
    b"",
    b"Subject: bare\nFrom: line ends\n",
    b"References: <%b>\r\nFrom: long\r\n" % (b"x" * 3000),
)


def test_listed_fields_are_those_of_the_header(tmp_path: Path) -> None:
    """What the card holds gives the same octets as the header itself, whatever the header."""
    house = House(tmp_path)
    house.deliver(*[header + b"\r\nFrom: body\r\n" for header in HEADERS * 8])
    line = house.select()
    # A field that is not listed makes the server read the header.
    by_header = fetch(line, b"BODY.PEEK[HEADER.FIELDS (%b X-Not-There)]" % LISTED).replace(b" X-Not-There", b"")
    assert fetch(line, b"BODY.PEEK[HEADER.FIELDS (%b)]" % LISTED) == by_header
    assert by_header.count(b"subject : folded\r\n\tover\r\n lines\r\nTo: b\r\nto: again\r\n\r\n)") == 8


def test_listed_fields_need_no_content(tmp_path: Path) -> None:
    """Listing messages opens no frame of them, however large they are."""
    house = House(tmp_path)
    house.deliver(b"Subject: listed\r\n\r\n" + bytes(100_000))
    run(house.engine.write(lambda txn: [txn.delete(Table.BLOB, key) for key, _ in list(txn.scan(Table.BLOB, b""))]))
    line = house.select()
    assert b"Subject: listed\r\n\r\n)" in fetch(line, b"BODY.PEEK[HEADER.FIELDS (Subject)]")
