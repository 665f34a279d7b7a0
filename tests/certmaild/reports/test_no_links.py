"""The law: nothing that can be clicked stands in any word that the server writes, and nothing of it is HTML.

Every string of the program is looked at, so that a new text cannot be forgotten; then what comes of the texts, with
whatever they quote.
"""

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from delivery_support import House
from support import memory_engine, run
from twisted.logger import capturedLogs

import certmaild
from certmaild import welcome
from certmaild.guests.notice_text import SHIPPED
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.layout_policies import FailureRow, SessionsRow, TlsDayRow
from certmaild.outbound.interfaces import News, Occasion
from certmaild.outbound.tls_report import Submitter, report_letter
from certmaild.outbound.values import Delivered, Problem, Recipient, RouteKind
from certmaild.peering.findings import Finding
from certmaild.peering.watch import _letter
from certmaild.protocols.smtp.grammar import Path as SmtpPath
from certmaild.reports.links import link_in, make_plain
from certmaild.reports.texts import ENGLISH, NOTICE, Texts
from certmaild.reports.words import About, format_subject, format_words

ROOT = Path(certmaild.__file__).parent
CLICKED = re.compile(r"[a-z][a-z0-9+.-]*://|www\.|mailto:|\btel:|<a\b|</|text/html|add_alternative", re.IGNORECASE)
MAY = {
    # What other programs read, and people only where they set up DNS or a web server.
    "certmaild/client_setup/autoconfig.py": {"</", "<a"},
    "certmaild/client_setup/autodiscover.py": {"http://", "</", "<a"},
    "certmaild/commands/dns.py": {"https://"},
    "certmaild/outbound/sts_fetch.py": {"https://"},
    "certmaild/peering/dns_records.py": {"mailto:"},
    # What tells a link when it sees one, or reads what others send.
    "certmaild/reports/links.py": {"://", "www\\.", "mailto:", "text/html", "tel:", "</"},
    "certmaild/services/letters.py": {"text/html", "</"},
}


def modules() -> list[Path]:
    return sorted(
        path
        for room in (ROOT, *(ROOT.parent / name for name in ("keystore", "mailbox", "protocols")))
        for path in room.rglob("*.py")
        if room is not ROOT or path.relative_to(ROOT).parts[0] not in ("keystore", "mailbox", "protocols")
    )


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Every string of a module but its docstrings."""
    tree = ast.parse(path.read_text("utf-8"))
    words_about_it = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in words_about_it:
            if isinstance(node.value, str):
                yield node.lineno, node.value
            elif isinstance(node.value, bytes):
                yield node.lineno, node.value.decode("latin-1")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT.parent)))
def test_no_string_of_the_program_is_a_link(path: Path) -> None:
    allowed = MAY.get(str(path.relative_to(ROOT.parent)), set())
    found = [
        (line, match[0])
        for line, text in strings(path)
        for match in CLICKED.finditer(text)
        if not any(one in match[0] or match[0] in one for one in allowed)
    ]
    assert found == []


def test_that_such_strings_are_found(tmp_path: Path) -> None:
    module = tmp_path / "texts.py"
    module.write_text(
        '"""See http://a.example."""\nA = 1\n"""mailto:x"""\nB = f"see {A} http://b.example"\nC = b"www.c"\n'
    )
    assert [CLICKED.search(text) is not None for _, text in strings(module)] == [True, False, True]


def every_text(value: Any) -> Iterator[str]:
    """All strings within a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from every_text(one)
    elif isinstance(value, list | tuple | set | frozenset):
        for one in value:
            yield from every_text(one)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from every_text(getattr(value, field.name))
    elif isinstance(value, type) and issubclass(value, Enum):
        yield from every_text([one.value for one in value])


FILLED = re.compile(r"\{[^{}]*\}")


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*texts.py")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_no_sentence_makes_a_link_of_what_is_put_into_it(path: Path) -> None:
    module = import_module(f"certmaild.{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}")
    texts = [text for name, value in vars(module).items() if not name.startswith("__") for text in every_text(value)]
    assert texts
    for text in texts:
        assert link_in(FILLED.sub("example", text)) is None, text


EXAMPLES: dict[object, Any] = {str: "example", int: 3, float: 1_800_000_000.0, bool: True, str | None: "example"}


def letters() -> Iterator[Any]:
    """What makes letters of plain values; of others every string is looked at above, and `make_plain` looks at all."""
    for path in sorted(ROOT.rglob("*texts.py")):
        module = import_module(f"certmaild.{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}")
        for name, make in vars(module).items():
            if not inspect.isfunction(make) or make.__module__ != module.__name__:
                continue
            hints = get_type_hints(make)
            if hints.pop("return", None) is EmailMessage and all(one in EXAMPLES for one in hints.values()):
                yield pytest.param(make, hints, id=f"{path.parent.name}-{name}")


@pytest.mark.parametrize(("make", "hints"), list(letters()))
def test_no_letter_holds_a_link(make: Callable[..., EmailMessage], hints: dict[str, object]) -> None:
    kinds = {name: one.kind for name, one in inspect.signature(make).parameters.items()}
    plain = [EXAMPLES[hints[name]] for name, kind in kinds.items() if kind is not inspect.Parameter.KEYWORD_ONLY]
    named = {name: EXAMPLES[hints[name]] for name, kind in kinds.items() if kind is inspect.Parameter.KEYWORD_ONLY}
    letter = make(*plain, **named)
    assert "text/html" not in [part.get_content_type() for part in letter.walk()]
    assert link_in(f"{letter['Subject']}\n{words_of(letter)}") is None


def test_every_language_of_notices_is_tried() -> None:
    found = sorted(path.name.split(".")[1] for path in (ROOT / "guests" / "templates").iterdir())
    # `test_notice_text` renders each of them and looks for links.
    assert found == sorted(SHIPPED)


HOSTILE = "550 5.1.1 see https://evil.example/?a or www.evil.example, mailto:x@evil.example evil.example/b <a href=x>"
REPLY = Problem(True, 550, "5.1.1", f"He said {HOSTILE}", "https://evil.example", HOSTILE)


@pytest.mark.parametrize("texts", [ENGLISH, NOTICE], ids=["messages", "notices"])
@pytest.mark.parametrize("occasion", Occasion)
def test_a_report_quotes_no_link(texts: Texts, occasion: Occasion) -> None:
    went = occasion in (Occasion.RELAYED, Occasion.DELIVERED)
    fate = Delivered("www.evil.example", HOSTILE, None) if went else REPLY
    recipient = Recipient(SmtpPath("bob", "example.org"), RouteKind.NOTICE, "")
    news = [News(recipient, occasion, fate, 2, 1_800_000_000, 1_800_100_000)]
    about = About("mx.example.com", "postmaster@example.com", 1_800_000_000, f"hello {HOSTILE}")
    assert link_in(format_words(news, about, texts)) is None
    assert link_in(format_subject(news, texts)) is None


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = House(memory_engine(), ServerSecrets.create(tmp_path / "secrets"))
    house.add("ann")
    return house


def as_sent(house: House, letter: EmailMessage) -> EmailMessage:
    with capturedLogs() as logs:
        run(house.correspondence.mail.write(letter, "ann@example.com"))
    (arrived,) = house.mail_of("ann")
    message = message_from_bytes(arrived.content, policy=default)
    assert isinstance(message, EmailMessage)
    message["X-Warned"] = str(any("held a link" in entry["log_format"] for entry in logs))
    return message


def words_of(message: EmailMessage) -> str:
    part = message.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


def test_the_welcome(house: House) -> None:
    letter = EmailMessage()
    letter.set_content(welcome.TEXT.format(address="ann@example.com"))
    assert link_in(words_of(as_sent(house, letter))) is None


def test_a_letter_about_a_partner_who_shows_a_hostile_certificate(house: House) -> None:
    finding = Finding("example.org: its mail servers do not prove themselves", (f"mx.example.org: {HOSTILE}.",))
    sent = as_sent(house, _letter(finding, "example.org"))
    text = words_of(sent)
    assert link_in(text) is None and "evil.example" not in text and "[link left out]" in text
    assert sent["X-Warned"] == "True"


def test_a_tls_report(house: House) -> None:
    failure = FailureRow("certificate-expired", "www.evil.example", "192.0.2.1", "https://evil.example", 1)
    row = TlsDayRow("example.org", (SessionsRow("no-policy-found", (), (), 3, 1, (failure,)),))
    letter = report_letter(row, 20_000, Submitter("mx.example.com", "example.com", "postmaster@example.com"), "1@x")
    sent = as_sent(house, letter)
    assert link_in(words_of(sent)) is None and sent["X-Warned"] == "False"
    assert [part.get_content_type() for part in sent.walk()][1:] == ["text/plain", "application/tlsrpt+gzip"]


def test_no_letter_is_html(house: House) -> None:
    letter = EmailMessage()
    letter.set_content("words")
    letter.add_alternative("<p>words</p>", subtype="html")
    with pytest.raises(ValueError, match="plain text"):
        make_plain(letter, "-")
    with pytest.raises(ValueError, match="plain text"):
        run(house.correspondence.mail.write(letter, "ann@example.com"))
    assert house.mail_of("ann") == []


def test_our_own_names_stay_however_they_are_called() -> None:
    letter = EmailMessage()
    letter.set_content(
        "www.example.com, port 993; <www.bob@guest.example.com>; but www.example.com/x and www.other.example"
    )
    assert make_plain(letter, "-", ("www.example.com",)) is False
    assert letter.get_content() == "www.example.com, port 993; <www.bob@guest.example.com>; but - and -\n"
