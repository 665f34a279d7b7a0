"""Our DKIM keys on disk, and the records that publish them."""

from datetime import date
from pathlib import Path

import pytest
from twisted.logger import capturedLogs

from certmaild.dkim.key_files import LOOK_S, DkimKeysMissing, KeyFiles, txt_strings
from certmaild.keystore.errors import SignatureKeyUnfit
from certmaild.keystore.mail_signatures import KeyKind, MailSigningKey, read_public_key

DAY = date(2026, 11, 23)


def test_the_first_pair_signs_and_the_next_when_it_is_told_to(tmp_path: Path) -> None:
    files, server = KeyFiles(tmp_path), KeyFiles(tmp_path)
    assert server.signing(0.0) == ()
    first, second = files.make(DAY), files.make(DAY)
    assert (first.name, first.signs, second.name, second.signs) == ("20261123", True, "20261123b", False)
    assert server.signing(LOOK_S - 1) == ()
    assert [one.selector for one in server.signing(LOOK_S)] == ["20261123-rsa", "20261123-ed25519"]
    files.use("20261123b")
    assert [one.selector for one in server.signing(2 * LOOK_S)] == ["20261123b-rsa", "20261123b-ed25519"]
    with pytest.raises(DkimKeysMissing, match="signs now"):
        files.remove("20261123b")
    files.remove("20261123")
    assert [pair.name for pair in files.pairs()] == ["20261123b"]
    with pytest.raises(DkimKeysMissing, match="no pair"):
        files.use("20261123")


def test_keys_are_their_owners_alone(tmp_path: Path) -> None:
    files = KeyFiles(tmp_path)
    files.make(DAY)
    for file in (tmp_path / "dkim").iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
    (tmp_path / "dkim" / "20261123-rsa.pem").chmod(0o644)
    with pytest.raises(SignatureKeyUnfit, match="chmod 600"):
        files.pairs()


def test_keys_that_cannot_be_read_stop_no_mail(tmp_path: Path) -> None:
    files, server, late = KeyFiles(tmp_path), KeyFiles(tmp_path), KeyFiles(tmp_path)
    files.make(DAY)
    assert len(server.signing(0.0)) == 2
    files.make(DAY)
    files.use("20261123b")
    (tmp_path / "dkim" / "20261123b-rsa.pem").write_text("nonsense")
    with capturedLogs() as events:
        assert [one.selector for one in server.signing(LOOK_S)] == ["20261123-rsa", "20261123-ed25519"]
        assert late.signing(0.0) == ()
    (tmp_path / "dkim" / "20261123b-rsa.pem").write_bytes(MailSigningKey.make(KeyKind.RSA).pem)
    assert [one.selector for one in server.signing(2 * LOOK_S)] == ["20261123b-rsa", "20261123b-ed25519"]
    assert [event["so"] for event in events] == ["signed by the former pair, 20261123", "unsigned"]


def test_records_can_be_read_as_others_read_them(tmp_path: Path) -> None:
    pair = KeyFiles(tmp_path).make(DAY)
    for (name, text), one in zip(pair.records("example.com"), pair.keys, strict=True):
        assert name == f"{one.selector}._domainkey.example.com"
        tags = dict(tag.split("=", 1) for tag in text.split("; "))
        assert tags["v"] == "DKIM1"
        read_public_key(KeyKind(tags["k"]), tags["p"].encode())
        strings = txt_strings(text)
        assert strings.replace('" "', "") == f'"{text}"'
        assert max(map(len, strings[1:-1].split('" "'))) <= 255
