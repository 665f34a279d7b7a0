"""Partner records: found by domain, made and changed by command, at once known to whoever serves."""

import os
from datetime import date
from ipaddress import ip_network
from pathlib import Path

import pytest
from command_support import Line, make_line
from support import reactor, run

from certmaild import config as configuration
from certmaild.keystore.certificates import PrivateFiles, key_pin, read_certificates
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.keystore.tls_values import Level, Pem
from certmaild.mailbox.changes import PARTNERS_CHANGED
from certmaild.mailbox.engine_lmdb import LmdbEngine
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_partners import AFTER_ENTRIES, ENTRIES, entry_key
from certmaild.partners.book import PartnerBook
from certmaild.partners.record import PartnerRecord
from certmaild.partners.stored import LivePartners

IN_THE_FILE = '[[partner]]\ndomain = "file.example"\nlevel = "dane"\n'


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return make_line(tmp_path, tables=IN_THE_FILE)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def words(text: str) -> str:
    return " ".join(text.split())


# The book.


def test_a_domains_own_record_goes_before_one_above_it_and_the_configuration_before_the_store() -> None:
    book = PartnerBook(
        [PartnerRecord("a.example", level=Level.DANE)],
        [PartnerRecord("a.example", level=Level.MAY), PartnerRecord("b.example", subdomains=True)],
    )
    found = book.find("a.example")
    assert found is not None and found.level is Level.DANE
    assert book.find("x.a.example") is None
    assert book.find("x.y.b.example") is book.find("b.example")
    assert book.find("xb.example") is None
    book.restock([PartnerRecord("y.b.example"), *book])
    own = book.find("y.b.example")
    assert own is not None and own.domain == "y.b.example"
    book.configure([])
    assert sorted(one.domain for one in book) == ["a.example", "b.example", "y.b.example"]
    assert not book.is_configured("a.example")


# Commands.


def test_a_record_from_beginning_to_end(line: Line, data: Path) -> None:
    files = PrivateFiles(data)
    said = line.run(
        *("partner", "add", "Bücher.example", "--ca", str(files.authority), "--pin-certificate", str(files.chain)),
        *("--name", "*.books.example", "--route", "[2001:db8::1]:2525", "--route", "mx.books.example"),
        *("--network", "192.0.2.0/24", "--from", "2027-01-31", "--level", "secure", "--direction", "out"),
    )
    domain = "xn--bcher-kva.example"
    assert f"certmaild partner test {domain}" in words(said.stdout)
    assert "Until 2027-01-31 mail goes by the default level" in words(said.stdout)
    shown = line.json("partner", "show", "bücher.example")
    assert shown["ca"] == files.authority.read_text()
    assert shown["from"] == "2027-01-31" and shown["in_force"] is False and shown["kept"] == "command"
    assert shown["networks"] == ["192.0.2.0/24"] and shown["direction"] == "out"
    assert "already" in line.run("partner", "add", domain, status=1).stderr
    line.run("partner", "set", domain, "--from", "none", "--network", "none", "--subdomains")
    changed = line.json("partner", "show", f"mail.{domain}")
    assert changed["from"] is None and changed["networks"] == [] and changed["subdomains"] is True
    for key in ("ca", "pins", "names", "route", "level", "direction"):
        assert changed[key] == shown[key], key
    text = words(line.run("partner", "show", domain).stdout)
    assert "BEGIN CERTIFICATE" not in text and "certmaild private CA" in text
    line.run("partner", "remove", domain)
    assert "no record" in line.run("partner", "remove", domain, status=1).stderr
    assert "no record" in line.run("partner", "show", domain, status=1).stderr
    history = line.json("partner", "list", "--history")
    assert [one["act"] for one in history] == ["added", "changed", "removed"]
    assert history[0]["record"] == {key: shown[key] for key in history[0]["record"]}
    assert history[2]["record"] is None and history[2]["by"]
    assert "added" in line.run("partner", "list", "--history").stdout


def test_the_authority_is_copied_without_whatever_else_is_in_the_file(line: Line, data: Path, tmp_path: Path) -> None:
    files, both = PrivateFiles(data), tmp_path / "both.pem"
    both.write_bytes(files.key.read_bytes() + files.authority.read_bytes())
    line.run("partner", "add", "p.example", "--ca", str(both))
    both.unlink()
    assert line.json("partner", "show", "p.example")["ca"] == files.authority.read_text()


def test_a_record_of_the_configuration_goes_before_and_is_changed_nowhere_else(line: Line) -> None:
    for command in (("add", "file.example"), ("remove", "file.example"), ("set", "file.example", "--level", "may")):
        said = line.run("partner", *command, status=1).stderr
        assert str(line.config) in said and "SIGHUP" in said
    line.run("partner", "add", "later.example", "--level", "may")
    line.config.write_text(line.config.read_text() + '[[partner]]\ndomain = "later.example"\nlevel = "pin"\npins=["')
    line.config.write_text(line.config.read_text() + "00" * 32 + '"]\n')
    assert line.json("partner", "show", "later.example")["level"] == "pin"
    rows = [(one["domain"], one["kept"], one["level"]) for one in line.json("partner", "list")]
    assert rows == [
        ("file.example", "configuration", "dane"),
        ("later.example", "configuration", "pin"),
        ("later.example", "command", "may"),
    ]
    assert "does not count" in line.run("partner", "list").stdout
    # What does not count can be put away.
    line.run("partner", "remove", "later.example")
    assert line.json("partner", "show", "later.example")["level"] == "pin"


def test_clear_text_is_said_in_words(line: Line) -> None:
    assert "clear text" in line.run("partner", "add", "old.example", "--level", "may").stdout
    assert "clear text" not in line.run("partner", "add", "in.example", "--level", "may", "--direction", "in").stdout


def test_terms_that_make_no_sense_are_refused(line: Line, data: Path) -> None:
    files = PrivateFiles(data)
    for status, given in (
        (2, ("p.example", "--from", "31.1.2027")),
        (2, ("p.example", "--ca", "missing.pem")),
        (2, ("p.example", "--pin-certificate", str(files.key))),
        (2, ("p.example", "--level", "none")),
        (2, ("not a domain",)),
        (1, ("p.example", "--network", "10.0.0.1/8")),
        (1, ("p.example", "--route", "a:b:c")),
        (1, ("p.example", "--level", "pin")),
        (1, ("p.example", "--pin", "short")),
        (1, ("p.example", "--client-certificate", str(files.chain))),
        (1, ("p.example", "--client-certificate", str(files.authority), "--client-key", str(files.key))),
        (1, ("example.com",)),
    ):
        line.run("partner", "add", *given, status=status)
    line.run("partner", "set", "p.example", status=2)
    line.run("partner", "set", "p.example", "--level", "may", status=1)
    assert line.json("partner", "list", "--history") == []


# The running server.


def test_a_serving_process_follows_what_another_changes(line: Line, data: Path) -> None:
    config = configuration.load(line.config)
    engine = LmdbEngine(data / "store", reactor, ServerSecrets.load(config.secrets))
    live = LivePartners(engine, ServerSecrets.load(config.secrets), config.partners)
    engine.start()
    try:
        run(live.open())
        book = live.book
        assert [one.domain for one in book] == ["file.example"]

        def after(*command: str) -> PartnerRecord | None:
            line.run_apart("partner", *command)
            reactor.advance(1)
            while live._is_reading:
                assert reactor.pump(10)
            return book.find("p.example")

        authority, pin = PrivateFiles(data).authority, key_pin(read_certificates(PrivateFiles(data).chain)[0])
        made = after("add", "p.example", "--ca", str(authority), "--network", "::/0", "--from", "2027-01-31")
        assert made == PartnerRecord(
            "p.example", ca=Pem(authority.read_text()), networks=(ip_network("::/0"),), start=date(2027, 1, 31)
        )
        changed = after("set", "p.example", "--level", "pin", "--pin", pin.hex())
        assert changed is not None and (changed.level, changed.pins) == (Level.PIN, (pin,))
        assert after("remove", "p.example") is None
        assert book.find("file.example") is not None
    finally:
        live.close()
        run(engine.close())


def test_a_damaged_or_missing_row_stops_the_start_and_changes_nothing_later(line: Line, data: Path) -> None:
    line.run("partner", "add", "p.example")
    line.run("partner", "add", "q.example")
    secrets = ServerSecrets.load(configuration.load(line.config).secrets)
    engine = LmdbEngine(data / "store", reactor, secrets)
    try:
        rows = dict(run(engine.read(lambda txn: list(txn.scan(Table.PARTNER, ENTRIES, AFTER_ENTRIES)))))
        live = LivePartners(engine, secrets, ())
        run(live.open())

        def spoil(key: bytes, value: bytes | None) -> None:
            def work(txn: object) -> None:
                if value is None:
                    txn.delete(Table.PARTNER, key)  # type: ignore[attr-defined]
                else:
                    txn.put(Table.PARTNER, key, value)  # type: ignore[attr-defined]
                txn.announce(PARTNERS_CHANGED)  # type: ignore[attr-defined]

            run(engine.write(work))
            while live._is_reading:
                assert reactor.pump(10)

        for value in (None, rows[entry_key(2)], rows[entry_key(1)][:-1] + b"x", os.urandom(80)):
            spoil(entry_key(1), value)
            assert sorted(one.domain for one in live.book) == ["p.example", "q.example"]
            with pytest.raises(Damaged):
                run(LivePartners(engine, secrets, ()).open())
        spoil(entry_key(1), rows[entry_key(1)])
        run(LivePartners(engine, secrets, ()).open())
    finally:
        run(engine.close())


def test_nothing_of_a_partner_is_on_the_disk_in_clear(line: Line, data: Path) -> None:
    line.run("partner", "add", "secret-partner.example", "--route", "secret-host.example")
    for path in (data / "store").iterdir():
        octets = path.read_bytes()
        assert b"secret-partner" not in octets and b"secret-host" not in octets
