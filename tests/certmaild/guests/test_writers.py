"""Who wrote, as a notice says it: nothing that a writer calls himself may lead a reader astray."""

import time

import pytest

from certmaild.guests.senders import read_waiting
from certmaild.guests.writers import MAX_NAME, MOST, author_name, shown_address, shown_name, shown_writer, with_writer
from certmaild.mailbox.layout_guests import WriterRow
from certmaild.reports.links import link_in, without_links


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("Ann Example", "Ann Example"),
        ("Dr. Ann M. Müller-Lüdenscheidt", "Dr. Ann M. Müller-Lüdenscheidt"),
        ("René d'Été", "René d'Été"),
        ("  Ann\t Example\r\nBcc: x ", ""),
        ("Ann\r\nExample", "Ann Example"),
        ("Ann \u202emoc.live\u202c", ""),
        ("\u202eAnn\u2066 \u200bEx\u00adample\ufeff", "Ann Example"),
        ("Ann\x00\x1b[31m", ""),
        ("Ann\u2028Example\u00a0Mail", "Ann Example Mail"),
        ("https://evil.example", ""),
        ("javascript:alert", ""),
        ("see www.evil.example", ""),
        ("your bank evil.com", ""),
        ("ann@bank.example", ""),
        ("Call +1 (555) 010-9999", ""),
        ("Room 12", "Room 12"),
        ("<a href=x>", ""),
        ('"Ann"', "Ann"),
        ("", ""),
        ("x" * 500, "x" * (MAX_NAME - 1) + "…"),
    ],
)
def test_a_name(given: str, shown: str) -> None:
    assert shown_name(given) == shown


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (b"From: Ann Example <ann@example.com>\r\n", "Ann Example"),
        (b"From: =?utf-8?q?Ann_M=C3=BCller?= <ann@example.com>\r\n", "Ann Müller"),
        (b'From: "https://evil.example" <ann@example.com>\r\n', ""),
        (b"From: =?utf-8?q?a=0D=0ABcc:_b?= <ann@example.com>\r\n", ""),
        (b"From: ann@example.com\r\n", ""),
        (b"From: Ann <a@example.com>, Bob <b@example.com>\r\n", "Ann"),
        (b"From: First <a@example.com>\r\nFrom: Second <a@example.com>\r\n", "First"),
        (b"From: \r\n", ""),
        (b"Subject: hello\r\n", ""),
    ],
)
def test_the_author_of_a_message(header: bytes, name: str) -> None:
    assert author_name(header) == name


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("Ann@Example.com", "Ann@example.com"),
        ("ann@müller.example", "ann@xn--mller-kva.example"),
        ("www.evil.example/login@partner.example", "?@partner.example"),
        ('"https://evil"@partner.example', "?@partner.example"),
        ('"Your bank says"@partner.example', "?@partner.example"),
        ("no address", "?"),
    ],
)
def test_an_address(given: str, shown: str) -> None:
    assert shown_address(given) == shown


def test_the_latest_writers_are_kept() -> None:
    rows: tuple[WriterRow, ...] = ()
    for number in range(MOST + 2):
        rows = with_writer(rows, WriterRow("", f"{number}@example.com"))
    assert [row.address[0] for row in rows] == ["2", "3", "4", "5", "6"]
    rows = with_writer(rows, WriterRow("Cy", "3@example.com"))
    assert [shown_writer(row) for row in rows][-2:] == ["6@example.com", "Cy (3@example.com)"]
    assert len(rows) == MOST
    assert shown_writer(WriterRow("", "www.a.example/b@example.com")) == "?@example.com"


@pytest.mark.parametrize(
    "word",
    [
        "http://a.example",
        "hxxps://a.example",
        "mailto:a@b.example",
        "tel:+1555",
        "WWW.a.example",
        "a.example/login",
        "a.example?x",
        "a.example#x",
        "data:text/html,x",
        "<a",
        "</script>",
        "<br/><img/>",
        "<!--",
        "imap:x",
    ],
)
def test_what_is_a_link(word: str) -> None:
    assert link_in(f"Please see {word} now") == word
    if word != "imap:x":
        assert without_links(f"see\n{word}\x00now", "[left out]") == "see [left out] now"


@pytest.mark.parametrize(
    "text",
    [
        "Incoming mail: mx.example.com, IMAP port 993 or POP3 port 995, SSL/TLS",
        "<a@b.example> <p.x@b.example>: <img-x@b.example>",
        "at 19:43 (UTC), and/or <ann@example.com>",
        "Subject: hello",
        "K7QM-2D9X-4JTV-P3AB",
    ],
)
def test_what_is_none(text: str) -> None:
    assert link_in(text) is None


@pytest.mark.parametrize("unit", [b"a.", b"a-", b"a.-", b"xn--", b"ms-", b"=?utf-8?q?a.?= "])
def test_a_name_as_long_as_a_header_holds_nobody_up(unit: bytes) -> None:
    long = unit * (900_000 // len(unit))
    header = b'From: "' + long[:450_000] + b'" <a@b.example>\r\nSubject: ' + long[450_000:] + b"\r\n\r\n"
    times = []
    for _ in range(3):
        began = time.process_time()
        read_waiting(header, "a@b.example", None, "", 0)
        times.append(1000 * (time.process_time() - began))
    assert min(times) < 50
