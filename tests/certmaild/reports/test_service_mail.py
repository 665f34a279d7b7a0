"""Letters of the server's own: what others wrote stays in the field that quotes it."""

import email
import email.policy
from pathlib import Path

import pytest
from steward_support import make_home

from certmaild.protocols.smtp.grammar import Path as MailPath
from certmaild.services import texts

TRICK = "=?utf-8?q?a=0D=0ABcc:_x=40y.example=0D=0A=0D=0Athe_text?="


@pytest.mark.parametrize("name", ["Subject", "References", "In-Reply-To", "Certmaild-Invite"])
@pytest.mark.parametrize("value", [TRICK, f"Re: {'x' * 70} {TRICK}", f"<{TRICK}@v.example>", "a\x00\x1bb"])
def test_no_field_begins_another(tmp_path: Path, name: str, value: str) -> None:
    letter = texts.letter("the real text\n")
    letter[name] = value
    octets = make_home(tmp_path).correspondence.mail.octets(letter, MailPath("joe", "example.com"))
    found = email.message_from_bytes(octets, policy=email.policy.SMTP)
    assert found["Bcc"] is None
    assert found.get_content() == "the real text\r\n"
    assert not (set(range(32)) - {10, 13}) & set(octets.partition(b"\r\n\r\n")[0])


def test_an_address_that_looks_like_an_encoded_word_is_written_to(tmp_path: Path) -> None:
    path = MailPath("=?utf-8?q?a=0D=0AX:_y?=", "v.example")
    octets = make_home(tmp_path).correspondence.mail.octets(texts.letter("the text\n", "subject"), path)
    found = email.message_from_bytes(octets, policy=email.policy.SMTP)
    assert found["To"] == "undisclosed-recipients:;"
    assert found["X"] is None
