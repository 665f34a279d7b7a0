"""What is read of a message to a service address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmaild.services.letters import MOST_CHARACTERS, MOST_LINES, NotObeyed, own_words, plain_subject, read_letter


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
