"""What is read of a message to a service address."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmaild.services.commands import Command, Verb, first_command
from certmaild.services.interfaces import command_lines
from certmaild.services.letters import (
    MOST_CHARACTERS,
    MOST_LINES,
    Letter,
    NotObeyed,
    own_words,
    plain_subject,
    read_letter,
)


def lines_of(letter: Letter) -> list[str]:
    return command_lines(letter.subject, letter.text, is_answer=letter.is_answer)


def test_a_plain_message() -> None:
    letter = read_letter(
        b"From: a@example.com\r\nMessage-ID: <1@x>\r\nIn-Reply-To: <0@x>\r\nReferences: <9@x>\r\n <0@x>\r\n"
        b"Subject: AW: Re: =?utf-8?q?Ger=C3=A4t?=\r\n =?utf-8?q?_Uhr?=\r\n\r\nadd phone\r\n-- \r\nAnn\r\n"
    )
    assert (letter.subject, letter.text) == ("Gerät Uhr", "add phone")
    assert (letter.message_id, letter.in_reply_to, letter.references) == ("<1@x>", "<0@x>", ("<9@x>", "<0@x>"))


@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1", "nonsense"])
@pytest.mark.parametrize("encoding", ["8bit", "base64", "quoted-printable"])
def test_the_first_text_part_of_many(charset: str, encoding: str) -> None:
    body = {"8bit": "Gerät", "base64": "R2Vyw6R0", "quoted-printable": "Ger=C3=A4t"}[encoding]
    if charset == "iso-8859-1":
        body = {"8bit": body, "base64": "R2Vy5HQ=", "quoted-printable": "Ger=E4t"}[encoding]
    text = (
        f"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>html</p>\r\n"
        f"--b\r\nContent-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{body}"
        "\r\n--b--\r\n"
    )
    content = text.encode("latin-1" if charset == "iso-8859-1" else "utf-8")
    assert read_letter(content).text == "Gerät"


def test_html_alone_is_read_without_its_tags() -> None:
    html = b"Content-Type: text/html\r\n\r\n<html><body><div>add&nbsp;phone</div><div>Ann<br>x</div></body></html>"
    assert read_letter(html).text.split("\n")[0] == "add phone"


@pytest.mark.parametrize(
    "quote",
    [
        "On Mon, 23 Nov 2026 at 12:00, certmaild <a@b> wrote:",
        "Am 23.11.2026 um 12:00 schrieb certmaild:",
        "Le 23/11/2026, certmaild a écrit :",
        "-----Original Message-----",
        "________________________________",
        "From: certmaild",
        "--",
    ],
)
def test_quotes_and_signatures_are_left_out(quote: str) -> None:
    assert own_words(f"new code\n> old words\n\n{quote}\nrevoke phone") == "new code"


@pytest.mark.parametrize(
    "header",
    [
        "In-Reply-To: <0@x>\r\nSubject: revoke phone",
        "References: <0@x>\r\nSubject: revoke phone",
        "Subject: Re: revoke phone",
        "Subject: AW: Re: revoke phone",
        "Subject: Fwd: revoke phone",
    ],
)
@pytest.mark.parametrize("text", ["Thank you!\r\nrevoke phone", "", "> revoke phone", "Ann skrev:\r\nrevoke phone"])
def test_of_an_answer_only_the_first_line_is_a_command(header: str, text: str) -> None:
    """A stranger who names a service address in Reply-To wrote its subject, and what it quotes."""
    letter = read_letter(f"From: a@example.com\r\n{header}\r\n\r\n{text}\r\n".encode())
    assert letter.is_answer and first_command(lines_of(letter)) is None
    letter = read_letter(f"From: a@example.com\r\n{header}\r\n\r\nlist\r\n{text}".encode())
    assert first_command(lines_of(letter)) == Command(Verb.LIST)


def test_the_subject_of_a_new_message_is_a_command() -> None:
    letter = read_letter(b"From: a@example.com\r\nSubject: revoke phone\r\n\r\nThank you")
    assert not letter.is_answer and first_command(lines_of(letter)) == Command(Verb.REVOKE, "phone")


@pytest.mark.parametrize(
    "text",
    [
        "Am 23.11.2026 schrieb certmaild:\n> Reply: new code\n> code\n\nnew code\n",
        "On Mon, 23 Nov 2026 at 12:00, certmaild\n<a@b> wrote:\n> x\nnew code\n\n-- \nAnn",
        "certmaild pisze:\n\n> x\n\nnew code",
    ],
)
def test_an_answer_below_the_quote(text: str) -> None:
    assert own_words(text) == "new code"


@pytest.mark.parametrize(
    "quote",
    [
        "<blockquote>revoke phone</blockquote>",
        '<div class="gmail_quote">revoke phone</div>',
        '<div dir="ltr" id="divRplyFwdMsg">revoke phone</div>',
        '<div class="moz-cite-prefix">revoke phone</div>',
        "<hr>revoke phone",
        "<style>revoke phone</style><!-- revoke phone -->",
    ],
)
def test_quotes_in_html_are_left_out(quote: str) -> None:
    html = f"Content-Type: text/html\r\n\r\n<head><title>list</title></head><p></p>{quote}"
    assert "revoke" not in read_letter(html.encode()).text and "list" not in read_letter(html.encode()).text


@pytest.mark.parametrize(
    "part",
    [
        "Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nrevoke phone",
        "Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nrevoke phone",
    ],
)
def test_what_is_attached_is_not_read(part: str) -> None:
    head = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>Hi</p>\r\n"
    assert read_letter(f"{head}--b\r\n{part}\r\n--b--\r\n".encode()).text == "Hi"


def test_long_texts_are_cut() -> None:
    assert own_words("x" * 10_000 + "\n" + "y\n" * 1000).count("\n") == MOST_LINES - 1
    assert len(own_words("x" * 10_000)) == len(plain_subject("x" * 10_000)) == MOST_CHARACTERS


@pytest.mark.parametrize("value", ["auto-replied", "auto-generated; x", "Auto-Notified"])
def test_automatic_messages_are_not_read(value: str) -> None:
    with pytest.raises(NotObeyed):
        read_letter(f"Auto-Submitted: {value}\r\n\r\nadd phone".encode())
    assert read_letter(b"Auto-Submitted: no\r\n\r\nadd phone").text == "add phone"


def test_deep_nesting_is_survived() -> None:
    deep = b"".join(b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n) for n in range(1300))
    assert read_letter(b"Subject: list\r\n" + deep + b"\r\nx").subject == "list"


@given(st.binary(max_size=2000))
def test_anything_is_read_or_refused(content: bytes) -> None:
    for one in (content, b"Subject: x\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n" + content):
        try:
            letter = read_letter(one)
        except NotObeyed:
            continue
        assert "\n" not in letter.subject


@pytest.mark.parametrize("piece", [b"<!--", b"<head ", b"<script>", b"<", b"<a ", b"<br ", b"<blockquote "])
def test_html_that_is_never_closed_costs_no_more_than_it_is_long(piece: bytes) -> None:
    content = b"Content-Type: text/html\r\n\r\nadd phone<p>" + piece * (60_000 // len(piece))
    began = time.process_time()
    letter = read_letter(content)
    # A second of it would be a second of everybody's: the expression would hold the interpreter.
    assert time.process_time() - began < 0.5
    assert letter.text.startswith("add phone")


def test_html_is_shown_without_what_nobody_sees() -> None:
    html = b"<HTML><head><title>x</title></HEAD><!-- revoke phone --><style>p{}</style><p>add <b>phone</b></p></html>"
    assert read_letter(b"Content-Type: text/html\r\n\r\n" + html).text == "add phone"


@pytest.mark.parametrize(
    ("content", "most_ms"),
    [
        (b'Content-Type: text/plain; a="' + b";" * 65_000 + b'"\r\n\r\nx', 100),
        (b'Content-Type: multipart/mixed; a="' + b";" * 65_000 + b'"; boundary=x\r\n\r\nx', 100),
        (b"".join(b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n) for n in range(900)), 100),
        (b"\r\n" + b"a:\n>\n" * 13_000, 150),
        (b"\r\n" + b":\r\n>\r\n" * 10_000, 150),
    ],
    ids=["parameters", "parameters of a multipart", "nested", "quotes", "empty quotes"],
)
def test_a_hostile_message_takes_no_long_time(content: bytes, most_ms: float) -> None:
    content = b"Subject: list\r\n" + content
    times = []
    for _ in range(3):
        began = time.process_time()
        letter = read_letter(content)
        times.append(1000 * (time.process_time() - began))
    assert letter.subject == "list"
    assert min(times) < most_ms


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: =?utf-7?q?revoke_+2AA-?=\r\n\r\nx\r\n",
        b"Content-Type: text/plain; charset=utf-7\r\n\r\nrevoke +2AA-\r\n",
    ],
)
def test_half_a_character_is_not_taken_over(content: bytes) -> None:
    letter = read_letter(content)
    assert (letter.subject + letter.text).encode("utf-8").startswith(b"revoke ?")
