"""What a partner's administrator is told: our facts and lines that his server takes."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from command_support import Line, make_line

from certmaild import config as configuration
from certmaild.keystore.certificates import PrivateFiles
from certmaild.own_facts import gather

DEBS = Path(os.environ.get("CERTMAILD_TEST_DEBS", "/work/scratch/debs"))
HOST = "mail.example.com"


@pytest.fixture
def line(tmp_path: Path) -> Line:
    tables = '[outbound]\nsource = ["192.0.2.7"]\n[resolver]\naddresses = ["127.0.0.1#1"]\n'
    return make_line(tmp_path, tables=tables, hostname=HOST, ports="smtp = 25")


def told(line: Line, kind: str, domain: str = "p.example") -> str:
    """All lines for one kind of server."""
    made: Any = line.json("partner", "hello", domain, "--for", kind)
    return "\n".join(f"{one['where']}\n{one['text']}" for one in made[kind])


def with_a_public_certificate(line: Line, folder: Path) -> None:
    """Name our own certificate as if somebody else had made it."""
    files = PrivateFiles(folder / "data")
    line.config.write_text(line.config.read_text() + f'[tls]\ncertificate = "{files.chain}"\nkey = "{files.key}"\n')


def test_our_facts_are_all_there(line: Line, tmp_path: Path) -> None:
    line.run("cert", "next")
    facts = gather(configuration.load(line.config))
    shown = line.run("partner", "hello", "p.example").stdout
    assert facts.next_pin is not None
    for fact in (HOST, "192.0.2.7", "postmaster@example.com", facts.fingerprints[0].hex(":").upper()):
        assert fact in shown
    for pin in (facts.pin, facts.next_pin):
        assert pin.hex(":").upper() in shown
    assert PrivateFiles(tmp_path / "data").authority.read_text().strip() in shown
    for name in ("Postfix", "Exim", "Microsoft 365", "Google Workspace"):
        assert f"\n{name}\n---" in shown
    assert "no record of p.example here yet" in shown
    for secret in ("PRIVATE KEY", str(tmp_path)):
        assert secret not in shown


def test_the_terms_are_told(line: Line) -> None:
    line.run("partner", "add", "p.example", "--level", "verify", "--network", "198.51.100.0/24")
    shown = line.run("partner", "hello", "p.example", "--for", "google").stdout
    assert "level verify" in shown
    assert "comes over TLS, from 198.51.100.0/24; else it gets 530 or 550" in shown
    assert "Postfix" not in shown


def test_lines_for_postfix_by_whose_certificate_it_is(line: Line, tmp_path: Path) -> None:
    mine = told(line, "postfix")
    assert f"example.com secure match={HOST} servername={HOST} protocols=>=TLSv1.2 tafile=" in mine
    assert "example.com reject_plaintext_session" in mine and "transport" not in mine
    with_a_public_certificate(line, tmp_path)
    theirs = told(line, "postfix")
    assert "tafile" not in theirs and "BEGIN CERTIFICATE" not in theirs
    assert "smtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt" in theirs


def test_lines_for_microsoft_by_whose_certificate_it_is_and_what_we_show(line: Line, tmp_path: Path) -> None:
    mine = told(line, "microsoft")
    assert "-TlsSettings EncryptionOnly" in mine and "public authorities only" in mine
    assert "-RestrictDomainsToIPAddresses $true -SenderIPAddresses 192.0.2.7" in mine
    with_a_public_certificate(line, tmp_path)
    theirs = told(line, "microsoft")
    assert f"-TlsSettings DomainValidation -TlsDomain {HOST}" in theirs and "public authorities only" not in theirs
    # It knows IPv4 only, and would refuse what comes from the other address.
    line.config.write_text(line.config.read_text().replace('["192.0.2.7"]', '["192.0.2.7", "2001:db8::7"]'))
    assert "-RestrictDomainsToIPAddresses" not in told(line, "microsoft")
    files = PrivateFiles(tmp_path / "data")
    line.run(*("partner", "add", "p.example", "--client-certificate", str(files.chain), "--client-key", str(files.key)))
    assert f"-RestrictDomainsToCertificate $true -TlsSenderCertificateName {HOST}" in told(line, "microsoft")


def test_google_is_asked_to_check_only_what_it_can(line: Line, tmp_path: Path) -> None:
    assert "leave both checks off" in told(line, "google")
    with_a_public_certificate(line, tmp_path)
    assert "tick both checks" in told(line, "google")


def test_who_must_show_a_certificate_is_told_where_to_name_it(line: Line, tmp_path: Path) -> None:
    ca = str(PrivateFiles(tmp_path / "data").authority)
    line.run("partner", "add", "p.example", "--ca", ca, "--pin", "ab" * 32, "--name", "mx.p.example")
    shown = line.run("partner", "hello", "p.example").stdout
    assert "your server shows a certificate with the key sha256//" in shown and "for mx.p.example; else" in shown
    assert "smtp_tls_chain_files" in told(line, "postfix") and "tls_privatekey" in told(line, "exim")
    for kind in ("microsoft", "google"):
        assert "certmaild partner set p.example --no-certificate-in" in told(line, kind)
    line.run("partner", "set", "p.example", "--no-certificate-in")
    assert line.json("partner", "show", "p.example")["certificate_in"] is False
    for kind in ("microsoft", "google", "postfix", "exim"):
        assert not {"--no-certificate-in", "smtp_tls_chain_files", "tls_privatekey"} & set(told(line, kind).split())


# Exim takes the lines as they stand.


def exim(folder: Path) -> list[str]:
    """A command that runs Exim from its Debian package, which need not be installed; its user is made up."""
    packages = sorted(DEBS.glob("exim4-daemon-light_*.deb"))
    if not packages or os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root, unshare and the unpacked package exim4-daemon-light")
    subprocess.run(["dpkg-deb", "-x", str(packages[-1]), str(folder / "exim")], check=True)
    for name in ("passwd", "group"):
        text = Path(f"/etc/{name}").read_text()
        entry = "Debian-exim:x:64001:64001::/nonexistent:/bin/false\n" if name == "passwd" else "Debian-exim:x:64001:\n"
        (folder / name).write_text(text if "Debian-exim" in text else text + entry)
    mounts = " && ".join(f"mount --bind {folder / name} /etc/{name}" for name in ("passwd", "group"))
    return ["unshare", "--mount", "sh", "-c", f'{mounts} && exec {folder}/exim/usr/sbin/exim4 "$@"', "exim"]


@pytest.mark.parametrize("shows_a_certificate", [False, True])
def test_exim_takes_the_lines(line: Line, tmp_path: Path, shows_a_certificate: bool) -> None:
    command = exim(tmp_path)
    files = PrivateFiles(tmp_path / "data")
    if shows_a_certificate:
        line.run(
            *("partner", "add", "p.example", "--client-certificate", str(files.chain), "--client-key", str(files.key))
        )
    steps = {
        one["where"].split(" ")[0].rstrip(","): one["text"]
        for one in line.json("partner", "hello", "p.example")["exim"]
    }
    config = tmp_path / "exim.conf"
    config.write_text(
        f"primary_hostname = mx.p.example\nacl_smtp_mail = acl_mail\n{steps.get('main', '')}\n"
        f"begin acl\nacl_mail:\n{steps['the']}\naccept\nbegin routers\n{steps['routers']}\n"
        f"begin transports\n{steps['transports']}\n"
    )
    config.chmod(0o600)
    checked = subprocess.run([*command, "-C", str(config), "-bV"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr + checked.stdout
    assert "Configuration file is" in checked.stdout
    routed = subprocess.run(
        [*command, "-C", str(config), "-bP", "transport", "certmaild_partner_smtp"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert "hosts_require_tls = *" in routed and f"tls_sni = {HOST}" in routed
