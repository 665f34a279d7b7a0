"""Delivery status reports as a stock mail program reads them: words first, then status, then the message's header."""

import email
import re
from dataclasses import replace
from email.message import Message
from email.policy import default

import pytest

from certmaild.keystore.tls_values import Proof
from certmaild.outbound.interfaces import News, Occasion
from certmaild.outbound.values import Delivered, Envelope, Fate, Problem, Recipient, RouteKind
from certmaild.protocols.smtp.grammar import Path
from certmaild.reports.delivery_report import (
    MAX_HEADER,
    Reported,
    format_delivery_report,
    returned_header,
)
from certmaild.reports.names import ServerName
from certmaild.reports.texts import ENGLISH
from certmaild.reports.words import WIDTH

NOW = 1_795_000_000
SERVER = ServerName("mx.example.com", "example.com")
ANN = Path("ann", "example.com")
HEADER = (
    b"Received: by mx.example.com\r\nFrom: ann@example.com\r\nBcc: secret@hidden.example\r\n"
    b"Resent-Bcc: secret@hidden.example,\r\n folded@hidden.example\r\n"
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= from https://evil.example/a\r\nMessage-ID: <m1@example.com>\r\n\r\n"
)
UNKNOWN = Problem(
    True,
    550,
    "5.1.1",
    "The server there does not know the address.",
    "mx.example.org",
    "550 5.1.1 No such user, see https://help.example.org/?p=1 or www.example.org\r\nX-Forged: yes",
)
UNPROVEN = Problem(
    False,
    451,
    "4.7.5",
    "The certificate of mx.example.org expired on 2026-11-01.",
    "mx.example.org",
    concerns_tls=True,
)
PROOF = Proof("TLSv1.3", "AES", "X25519", True, "DANE 3 1 1", "DANE")
TAKEN = Delivered("mx.example.org", "250 2.0.0 Ok", PROOF)


def recipient(local: str, domain: str = "example.org", orcpt: bytes | None = None) -> Recipient:
    return Recipient(Path(local, domain), RouteKind.VERIFIED_TLS, "the default", orcpt=orcpt)


def one(occasion: Occasion, fate: Fate, to: Recipient | None = None, *, until_s: int | None = None) -> News:
    return News(to or recipient("bob"), occasion, fate, 3, NOW - 60, until_s)


def report(*news: News, stays_here: bool = True, envelope: Envelope | None = None, header: bytes = HEADER) -> Message:
    octets = format_delivery_report(
        SERVER,
        Reported(envelope or Envelope(ANN), NOW - 3600, header),
        news,
        now_s=NOW,
        name="00ff",
        stays_here=stays_here,
    )
    assert b"\n" not in octets.replace(b"\r\n", b"")
    assert all(len(line) <= 998 for line in octets.split(b"\r\n"))
    return email.message_from_bytes(octets, policy=default)


def words(message: Message) -> str:
    part = message.get_payload(0)
    assert part.get_content_type() == "text/plain"
    return str(part.get_content()).replace("\r\n", "\n")


def status(message: Message) -> list[dict[str, str]]:
    return [{name: str(value) for name, value in block.items()} for block in message.get_payload(1).get_payload()]


def test_a_failure() -> None:
    envelope = Envelope(ANN, envid=b"Q+2B1")
    message = report(
        one(Occasion.FAILED, UNKNOWN, recipient("bob", orcpt=b"rfc822;Bob+2Bx@example.org")), envelope=envelope
    )
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message["To"] == "ann@example.com" and message["From"].endswith("<MAILER-DAEMON@example.com>")
    assert message["Subject"] == "Not delivered: your message to bob@example.org"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["References"] == message["In-Reply-To"] == "<m1@example.com>"
    text = words(message)
    assert text.startswith("Your message was not delivered, and nothing more will be tried.\n\nTo bob@example.org\n")
    assert "does not know the address" in text and "look for a typing mistake" in text
    assert "Grüße" in text and "postmaster@example.com" in text
    assert status(message) == [
        {
            "Original-Envelope-Id": "Q+1",
            "Reporting-MTA": "dns; mx.example.com",
            "Arrival-Date": "Wed, 18 Nov 2026 10:06:40 +0000",
        },
        {
            "Original-Recipient": "rfc822; Bob+x@example.org",
            "Final-Recipient": "rfc822; bob@example.org",
            "Action": "failed",
            "Status": "5.1.1",
            "Remote-MTA": "dns; mx.example.org",
            "Diagnostic-Code": "smtp; 550 5.1.1 No such user, see [link left out] or [link left out] X-Forged: yes",
            "Last-Attempt-Date": "Wed, 18 Nov 2026 11:05:40 +0000",
        },
    ]


@pytest.mark.parametrize(
    ("occasion", "fate", "subject", "action", "code", "said"),
    [
        (
            Occasion.DELAYED,
            replace(UNPROVEN, concerns_tls=False),
            "Not delivered yet:",
            "delayed",
            "4.7.5",
            "just wait",
        ),
        (Occasion.WARNED, UNPROVEN, "Held back:", "delayed", "4.7.5", "Nothing was sent in clear"),
        (Occasion.FAILED, UNPROVEN, "Not delivered:", "failed", "4.7.5", "Nothing was sent in clear."),
        (Occasion.RELAYED, TAKEN, "Handed on:", "relayed", "2.0.0", "TLSv1.3, and the server proved who it is (DANE"),
        (
            Occasion.RELAYED,
            replace(TAKEN, proof=None),
            "Handed on:",
            "relayed",
            "2.0.0",
            "was not encrypted, as agreed",
        ),
        (Occasion.DELIVERED, Delivered("", "", None), "Delivered:", "delivered", "2.1.5", "put into the mailbox"),
    ],
)
def test_occasions(occasion: Occasion, fate: Fate, subject: str, action: str, code: str, said: str) -> None:
    message = report(one(occasion, fate, until_s=NOW + 9 if action == "delayed" else None))
    assert message["Subject"] == f"{subject} your message to bob@example.org"
    assert said in " ".join(words(message).split())
    fields = status(message)[1]
    assert (fields["Action"], fields["Status"]) == (action, code)
    assert ("Will-Retry-Until" in fields) is (action == "delayed")


def test_what_is_worst_comes_first() -> None:
    message = report(
        one(Occasion.RELAYED, TAKEN, recipient("carl")),
        one(Occasion.FAILED, UNKNOWN, recipient("dora")),
        one(Occasion.FAILED, UNKNOWN, recipient("emil")),
    )
    assert message["Subject"] == "Not delivered: your message to 3 recipients"
    text = words(message)
    assert text.index("To dora@example.org\nTo emil@example.org\n") < text.index("To carl@example.org")
    assert [block["Action"] for block in status(message)[1:]] == ["relayed", "failed", "failed"]


def test_no_link_and_no_hidden_recipient() -> None:
    octets = b""
    for stays_here in (True, False):
        for occasion in Occasion:
            fate = TAKEN if occasion in (Occasion.RELAYED, Occasion.DELIVERED) else UNKNOWN
            message = report(one(occasion, fate), stays_here=stays_here)
            text = words(message) + str(status(message))
            assert not re.search(r"://|www\.|mailto:|<a\b|href", text, re.IGNORECASE)
            octets += message.as_bytes()
    assert b"hidden.example" not in octets and b"Bcc" not in octets


@pytest.mark.parametrize(
    "link",
    [
        "_https://evil.example",
        "1http://evil.example",
        "\u00e9HTTPS://evil.example",
        "_www.evil.example",
        "xmailto:a@b.example",
        "evil.example/log-in",
        "evil.example:8443/",
        "\u043f.\u0440\u0444/x",
    ],
)
def test_no_link_behind_other_letters_and_none_without_a_scheme(link: str) -> None:
    message = report(one(Occasion.FAILED, replace(UNKNOWN, reply=f"550 5.1.1 see {link} or ask mx.example.org")))
    for text in (" ".join(words(message).split()), status(message)[1]["Diagnostic-Code"]):
        assert "see [link left out] or ask mx.example.org" in text


@pytest.mark.parametrize("reply", ["550 " + "x" * 996, "550 " + "\u00fc" * 996, "550 " + "\U0001f600 " * 498])
@pytest.mark.parametrize("local", ["bob", "j\u00f6rg"])
def test_no_line_is_too_long_for_mail_whatever_a_server_says(reply: str, local: str) -> None:
    report(one(Occasion.FAILED, replace(UNKNOWN, reply=reply), recipient(local)))


def test_no_sentence_of_ours_holds_a_link() -> None:
    texts = [str(value) for name in ENGLISH.__slots__ for value in _all(getattr(ENGLISH, name))]
    assert len(texts) > 30
    assert not [text for text in texts if re.search(r"://|www\.|mailto:|@", text)]


def _all(value: object) -> list[object]:
    return list(value.values()) if hasattr(value, "values") else [value]


def test_a_report_that_leaves_the_house_repeats_the_subject_in_the_header_only() -> None:
    message = report(one(Occasion.FAILED, UNKNOWN), stays_here=False)
    assert "Grüße" not in words(message)
    assert message.get_payload(2).get_content_type() == "text/rfc822-headers"


def test_addresses_of_other_letters() -> None:
    to = recipient("jörg", orcpt=rb"utf-8;j\x{F6}rg@example.org")
    message = report(one(Occasion.FAILED, UNKNOWN, to), header="Subject: Größe\r\n\r\n".encode())
    assert message.get_payload(1).get_content_type() == "message/global-delivery-status"
    assert message.get_payload(2).get_content_type() == "message/global-headers"
    octets = format_delivery_report(
        SERVER,
        Reported(Envelope(ANN), NOW, HEADER),
        [one(Occasion.FAILED, UNKNOWN, to)],
        now_s=NOW,
        name="00ff",
        stays_here=True,
    )
    assert "Final-Recipient: utf-8; jörg@example.org\r\n".encode() in octets
    assert "Original-Recipient: utf-8; jörg@example.org\r\n".encode() in octets
    assert octets.partition(b"\r\n\r\n")[0].isascii()
    ascii_only = report(one(Occasion.FAILED, UNKNOWN, recipient("bob", orcpt=rb"utf-8;j\x{F6}rg@example.org")))
    assert status(ascii_only)[1]["Original-Recipient"] == r"utf-8; j\x{F6}rg@example.org"


def test_a_status_that_is_none_is_not_repeated() -> None:
    for permanent, code in ((True, "5.0.0"), (False, "4.0.0")):
        fate = replace(UNKNOWN, permanent=permanent, enhanced="5.1.1\r\nX: y", reply="")
        assert status(report(one(Occasion.FAILED, fate)))[1]["Status"] == code


@pytest.mark.parametrize(
    ("host", "named"), [("192.0.2.1", "[192.0.2.1]"), ("2001:db8::1", "[IPv6:2001:db8::1]"), ("mx.a.example",) * 2]
)
def test_a_server_without_a_name_is_named_by_its_address(host: str, named: str) -> None:
    assert status(report(one(Occasion.FAILED, replace(UNKNOWN, host=host))))[1]["Remote-MTA"] == f"dns; {named}"


def test_a_long_reply_is_folded() -> None:
    for reply, to in (("550 " + "x" * 996, "bob"), ("550 " + "ü" * 996, "jörg")):
        report(one(Occasion.FAILED, replace(UNKNOWN, reply=reply), recipient(to)))
    folded = status(report(one(Occasion.FAILED, replace(UNKNOWN, reply="550 " + "word " * 199))))[1]["Diagnostic-Code"]
    assert folded.split() == ["smtp;", "550", *["word"] * 199]


def test_lines_are_short() -> None:
    fate = replace(UNKNOWN, words="A long story. " * 20)
    assert all(len(line) <= WIDTH for line in words(report(one(Occasion.FAILED, fate))).splitlines())


def test_a_header_is_given_back_in_whole_fields() -> None:
    field = b"X-Long: " + b"x" * 60 + b"\r\n  folded\r\n"
    header = field * (MAX_HEADER // len(field) + 5)
    given = returned_header(header + b"\r\n")
    assert MAX_HEADER - len(field) <= len(given) <= MAX_HEADER
    assert len(given) % len(field) == 0
    assert returned_header(b"") == b""
    assert returned_header(HEADER).endswith(b"Message-ID: <m1@example.com>\r\n")
