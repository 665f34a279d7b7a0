"""SMTP conversations of `tests/transcripts/smtp_client` from the client's side, whole and cut into single bytes.

``S:`` is a line that the server says (CRLF added), ``S!`` Python escapes as they are. ``C:`` is a line that must be
sent then, ``C!`` escapes. ``>`` is what our side does: ``starttls``, ``login``, ``quit``, ``hello`` (a new session
inside TLS), ``send SENDER RECIPIENT... [WORD]``, ``write`` with escapes, ``end``. ``E:`` is an event expected. The
first line says what kind of session it is.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path as File
from typing import Any

import pytest

from certmaild.protocols.errors import GrammarError
from certmaild.protocols.smtp.client import events
from certmaild.protocols.smtp.client.content import ContentUnfit
from certmaild.protocols.smtp.client.grammar import Credentials
from certmaild.protocols.smtp.client.session import Session
from certmaild.protocols.smtp.grammar import NULL_PATH, Path
from certmaild.protocols.smtp.parameters import BodyKind, DeliverBy, MailArguments, Notify, RcptArguments

FILES = sorted((File(__file__).parent.parent / "transcripts" / "smtp_client").glob("*.txt"))
WORDS: dict[str, dict[str, Any]] = {
    "utf8": {"utf8": True},
    "tls": {"require_tls": True},
    "7bit": {"body": BodyKind.SEVEN_BIT},
    "full": {"returns_full": True, "envid": b"QQ+2B1"},
    "size": {"size": 4711},
    "urgent": {"priority": 4},
    "by": {"deliver_by": DeliverBy(120, returns=True)},
}


def unescape(text: str) -> bytes:
    return text.encode("utf-8").decode("unicode_escape").encode("latin-1")


def path(text: str) -> Path:
    local, _, domain = text.rpartition("@")
    return NULL_PATH if text == "<>" else Path(local, domain)


def recipient(text: str) -> RcptArguments:
    address, *notify = text.split(",")
    if not notify:
        return RcptArguments(path(address))
    return RcptArguments(path(address), frozenset(map(Notify, notify)), b"rfc822;" + address.encode())


def shown(event: object) -> str:
    match event:
        case events.Hello(offers):
            return "hello" if offers.esmtp else "hello, no extensions"
        case events.Decided(index, reply):
            return f"decided {index} {reply}"
        case events.Refused(reply) | events.TlsRefused(reply):
            return f"{type(event).__name__.lower()} {reply}"
        case events.Closed(reply):
            return "closed" if reply is None else f"closed {reply}"
    return type(event).__name__.lower()


@dataclass
class Wire:
    """One session, what it sent and what it told."""

    kind: str
    cut: bool
    session: Session = field(init=False)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.session = self.fresh()

    def fresh(self) -> Session:
        return Session("mx.example.com", is_lmtp=self.kind == "lmtp", may_log_in=self.kind == "smart host")

    def hear(self, octets: bytes) -> None:
        for piece in [octets[at : at + 1] for at in range(len(octets))] if self.cut else [octets]:
            self.session.receive_data(piece)
            try:
                while (event := self.session.next_event()) is not events.NEED_DATA:
                    self.told.append(shown(event))
            except GrammarError as fault:
                self.told.append(f"garbage: {fault}")
                return

    def do(self, verb: str, rest: str) -> None:
        match verb:
            case "starttls":
                self.session.start_tls()
            case "login":
                self.session.log_in(Credentials("ann", "secret"))
            case "quit":
                self.session.quit()
            case "hello":
                self.session = self.fresh()
                self.session.say_hello()
            case "send":
                sender, *others = rest.split()
                mail = MailArguments(path(sender), body=BodyKind.EIGHT_BIT)
                for word in (one for one in others if one in WORDS):
                    mail = replace(mail, **WORDS[word])
                self.session.send(mail, [recipient(one) for one in others if one not in WORDS])
            case "write":
                try:
                    self.session.write(unescape(rest))
                except ContentUnfit as fault:
                    self.told.append(f"unfit: {fault}")
            case "end":
                self.session.finish()
            case _:
                raise AssertionError(verb)


@pytest.mark.parametrize("cut", ["whole", "bytes"])
@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_transcript(file: File, cut: str) -> None:
    first, *lines = file.read_text("utf-8").splitlines()
    wire = Wire(first.removeprefix("# session: "), cut == "bytes")
    sent, heard = b"", b""
    for number, line in enumerate([*lines, "# end"], 2):
        kind, rest = line[:2], line[3:]
        if kind in ("S:", "S!"):
            heard += rest.encode() + b"\r\n" if kind == "S:" else unescape(rest)
            continue
        if heard:
            wire.hear(heard)
            heard = b""
        sent += wire.session.take_output()
        where = f"{file.name}:{number}"
        if kind == "> ":
            assert not sent, (where, sent)
            assert not wire.told, (where, wire.told)
            verb, _, rest = line[2:].partition(" ")
            wire.do(verb, rest)
        elif kind in ("C:", "C!"):
            wanted = rest.encode() + b"\r\n" if kind == "C:" else unescape(rest)
            assert sent.startswith(wanted), (where, sent)
            sent = sent[len(wanted) :]
        elif kind == "E:":
            assert wire.told, (where, "nothing told")
            assert wire.told.pop(0) == rest, where
    assert not sent, sent
    assert not wire.told, wire.told
