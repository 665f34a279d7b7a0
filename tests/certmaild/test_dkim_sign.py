"""Signatures on outgoing mail, as others check them: dkimpy here, OpenDKIM in `test_dkim_programs`."""

from datetime import date
from pathlib import Path

import dkim
import pytest

from certmaild.dkim.key_files import KeyFiles
from certmaild.outbound.dkim_sign import Signer

pytest.importorskip("nacl", reason="dkimpy checks Ed25519 with it")
HEADER = b"From: Ann <ann@example.com>\r\nTo: x@y.example\r\nSubject: =?utf-8?q?hi?=\r\n\tthere\r\nList-Id: <a>\r\n"
BODY = b"Hello  you \r\n\r\n.\r\n\r\n"
NOW = 1_795_450_840.0


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> KeyFiles:
    files = KeyFiles(tmp_path_factory.mktemp("keys"))
    files.make(date(2026, 11, 23))
    return files


def signed(files: KeyFiles, *, domain: str = "example.com") -> bytes:
    signer = Signer(("example.com", "other.example"), files.signing)
    body = signer.body_hash()
    for at in range(len(BODY)):
        body.feed(BODY[at : at + 1])
    body.finish()
    return signer.sign(HEADER, body, domain=domain, now_s=NOW)


def results(files: KeyFiles, message: bytes, *, domain: str = "example.com") -> list[bool]:
    """What dkimpy says of each signature."""
    records = dict(files.pairs()[0].records(domain))

    def answer(name: bytes, timeout: int = 5) -> bytes:
        return records[name.decode().rstrip(".")].encode()

    found = []
    for at in range(2):
        try:
            found.append(bool(dkim.DKIM(message).verify(at, dnsfunc=answer)))
        except dkim.ValidationError:
            found.append(False)
    return found


@pytest.mark.parametrize("domain", ["example.com", "other.example"])
def test_both_signatures_hold(files: KeyFiles, domain: str) -> None:
    prefix = signed(files, domain=domain)
    assert prefix.count(b"DKIM-Signature:") == 2
    assert max(map(len, prefix.split(b"\r\n"))) <= 78
    assert results(files, prefix + HEADER + b"\r\n" + BODY, domain=domain) == [True, True]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"To: x@", b"Cc: me@y.example\r\nTo: x@"),
        (b"To: x@", b"Content-Type: a/b\r\nTo: x@"),
        (b"List-Id: <a>\r\n", b"List-Id: <a>\r\nSubject: another\r\n"),
        (b"Subject: =", b"Reply-To: thief@y.example\r\nSubject: ="),
        (b"<a>", b"<b>"),
        (b"Hello", b"Hullo"),
    ],
)
def test_what_is_changed_or_added_is_found(files: KeyFiles, old: bytes, new: bytes) -> None:
    message = signed(files) + HEADER + b"\r\n" + BODY
    assert results(files, message.replace(old, new)) == [False, False]


def test_the_white_space_that_servers_change_may_change(files: KeyFiles) -> None:
    changed = signed(files) + HEADER.replace(b"\r\n\t", b" ").replace(b"From:", b"FROM: ") + b"\r\n" + BODY + b"\r\n"
    assert results(files, changed) == [True, True]


def test_other_domains_are_not_signed_for(files: KeyFiles, tmp_path: Path) -> None:
    assert signed(files, domain="elsewhere.example") == b""
    assert signed(KeyFiles(tmp_path)) == b""
