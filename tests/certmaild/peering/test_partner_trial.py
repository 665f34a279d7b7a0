"""`certmaild partner trial`: one message under a partner's terms, its outcome with proof, then a date."""

from collections.abc import Iterator
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest
import tls_support
from command_support import Line, make_line
from dns_support import DnsNetwork
from reactor_support import running_reactor
from smtp_peer_support import Peer
from tls_support import Authority

MX = "mx.p.example"


@pytest.fixture(scope="module")
def root() -> Authority:
    return tls_support.authority()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    running_reactor()
    with DnsNetwork(tmp_path, {"p.example": "mx A 127.0.0.1"}) as network:
        yield make_line(tmp_path, tables=f'[resolver]\naddresses = ["{network.resolver}"]\n')


def agree(line: Line, root: Authority, peer: Peer, folder: Path, *more: str) -> None:
    ca = str(root.write_pem(folder))
    line.run("partner", "add", "p.example", "--ca", ca, "--route", f"{MX}:{peer.port}", "--name", MX, *more)


def test_one_message_goes_and_its_proof_is_shown_then_a_date_is_set(
    line: Line, root: Authority, tmp_path: Path
) -> None:
    line.run("dkim", "make")
    line.run("user", "add", "ann@example.com")
    with Peer(root.issue(MX).server(tmp_path)) as peer:
        agree(line, root, peer, tmp_path, "--from", "2099-01-01")
        said = line.run("partner", "trial", "p.example", "--from", "2027-03-01").stdout
        assert "took the message to postmaster@p.example: 250 2.0.0 Queued" in said
        assert f"It proved itself by certificate for {MX}; TLSv1.3" in said and "judged by partner p.example" in said
        assert "enforced from 2027-03-01 on" in said
        (content,) = peer.messages
        assert b"MAIL FROM:<postmaster@example.com>" in peer.commands[3]
        assert peer.verbs().count("MAIL") == 1
        letter = message_from_bytes(content, policy=default)
        assert letter["To"] == "postmaster@p.example" and letter["Auto-Submitted"] == "auto-generated"
        text = letter.get_content()
        assert text.startswith("This is a trial message") and "level secure" in text and "://" not in text
        assert content.count(b"DKIM-Signature:") == 2
        assert line.json("partner", "show", "p.example")["from"] == "2027-03-01"
        assert [one["act"] for one in line.json("partner", "list", "--history")] == ["added", "changed"]
        made = line.json("partner", "trial", "p.example", "--to", "bob@p.example", "--sender", "ann@example.com")
        assert made["state"] == "delivered" and made["proof"]["verified"] is True and made["to"] == "bob@p.example"
        assert b"From: ann@example.com" in peer.messages[1]
    refused = line.json("partner", "trial", "p.example", status=75)
    assert refused["state"] == "deferred" and "refuses connections" in refused["reason"]


def test_what_does_not_keep_to_the_terms_gets_nothing_and_no_date(line: Line, root: Authority, tmp_path: Path) -> None:
    with Peer(root.issue("mx.other.example").server(tmp_path)) as peer:
        agree(line, root, peer, tmp_path)
        said = line.run("partner", "trial", "p.example", "--from", "2027-03-01", status=75).stdout
        assert "its certificate is for mx.other.example" in said and "Nothing else was sent" in said
        assert peer.messages == []
        assert line.json("partner", "show", "p.example")["from"] is None
    with Peer(root.issue(MX).server(tmp_path), recipients={b"postmaster@p.example": b"550 5.1.1 Who?\r\n"}) as peer:
        line.run("partner", "set", "p.example", "--route", f"{MX}:{peer.port}")
        said = line.run("partner", "trial", "p.example", "--from", "2027-03-01", status=1).stdout
        assert "550 5.1.1 Who?" in said
        assert line.json("partner", "show", "p.example")["from"] is None


def test_a_trial_needs_a_record_that_is_for_mail_to_there(line: Line) -> None:
    assert "has no record" in line.run("partner", "trial", "p.example", status=1).stderr
    line.run("partner", "add", "p.example", "--direction", "in")
    assert "nothing to try" in line.run("partner", "trial", "p.example", status=1).stderr
    line.run("partner", "set", "p.example", "--direction", "both")
    line.run("partner", "trial", "p.example", "--to", "bob@q.example", status=2)
    assert (
        "not a hosted domain" in line.run("partner", "trial", "p.example", "--sender", "a@b.example", status=1).stderr
    )
    nobody = line.run("partner", "trial", "p.example", "--sender", "zoe@example.com", status=1).stderr
    assert "Nobody has this address" in nobody
    line.config.write_text(line.config.read_text() + '[[partner]]\ndomain = "f.example"\n')
    words = line.run("partner", "trial", "f.example", "--from", "2027-01-01", status=1).stderr
    assert "from = 2027-01-01" in words
