"""The fixed files, read back by other parsers and by the rules of the published formats."""

import plistlib
import subprocess
from dataclasses import replace
from pathlib import Path
from xml.dom import minidom
from xml.dom.minidom import Element

import pytest
from command_support import Line, make_line

from certmaild import config as configuration
from certmaild.client_setup.autoconfig import autoconfig
from certmaild.client_setup.autodiscover import autodiscover
from certmaild.client_setup.files import FileShelf, fixed_files
from certmaild.client_setup.settings import settings_for
from certmaild.config import default
from certmaild.config_values import Config, Listen
from certmaild.keystore.certificates import make_private
from certmaild.keystore.tls import read_identity

DOMAIN = "xn--mller-kva.example"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    listen = Listen((), imaps=993, pop3s=995, submissions=465, submission=587)
    return replace(default(tmp_path), hostname="mail.example.com", domains=(DOMAIN,), listen=listen)


def texts(parent: Element) -> dict[str, str]:
    """The children that hold text alone."""
    found = {}
    for child in parent.childNodes:
        if isinstance(child, Element) and child.firstChild is not None and len(child.childNodes) == 1:
            assert child.tagName not in found, "each stands once"
            found[child.tagName] = child.firstChild.nodeValue or ""
    return found


def test_autoconfig(config: Config) -> None:
    """https://wiki.mozilla.org/Thunderbird:Autoconfiguration:ConfigFileFormat"""
    root = minidom.parseString(autoconfig(settings_for(config, DOMAIN), DOMAIN)).documentElement
    assert root.tagName == "clientConfig" and root.getAttribute("version") == "1.1"
    (provider,) = root.getElementsByTagName("emailProvider")
    assert provider.getAttribute("id") == DOMAIN
    assert texts(provider)["domain"] == DOMAIN
    incoming, outgoing = (provider.getElementsByTagName(f"{one}Server") for one in ("incoming", "outgoing"))
    assert [one.getAttribute("type") for one in incoming] == ["imap", "pop3"]
    assert [one.getAttribute("type") for one in outgoing] == ["smtp", "smtp"]
    ports = {}
    for server in (*incoming, *outgoing):
        found = texts(server)
        assert set(found) == {"hostname", "port", "socketType", "authentication", "username"}
        assert found["hostname"] == "mail.example.com"
        assert found["authentication"] == "password-cleartext"
        assert found["username"] == "%EMAILADDRESS%"
        ports[int(found["port"])] = found["socketType"]
    assert ports == {993: "SSL", 995: "SSL", 465: "SSL", 587: "STARTTLS"}


def test_autodiscover(config: Config) -> None:
    root = minidom.parseString(autodiscover(settings_for(config, DOMAIN), DOMAIN)).documentElement
    schema = "http://schemas.microsoft.com/exchange/autodiscover/"
    assert (root.tagName, root.namespaceURI) == ("Autodiscover", schema + "responseschema/2006")
    (response,) = root.getElementsByTagName("Response")
    assert response.namespaceURI == schema + "outlook/responseschema/2006a"
    (account,) = response.getElementsByTagName("Account")
    assert texts(account) == {"AccountType": "email", "Action": "settings"}
    protocols = [texts(one) for one in account.getElementsByTagName("Protocol")]
    assert [(one["Type"], one["Port"], one["Encryption"]) for one in protocols] == [
        ("IMAP", "993", "SSL"),
        ("POP3", "995", "SSL"),
        ("SMTP", "465", "SSL"),
    ]
    for one in protocols:
        assert (one["Server"], one["SSL"], one["SPA"], one["AuthRequired"]) == ("mail.example.com", "on", "off", "on")
        assert (one["DomainRequired"], one["DomainName"]) == ("on", DOMAIN)


def test_starttls_alone(config: Config) -> None:
    lacking = replace(config, listen=Listen((), imaps=993, submission=587))
    document = minidom.parseString(autodiscover(settings_for(lacking, DOMAIN), DOMAIN))
    assert texts(document.getElementsByTagName("Protocol")[1])["Encryption"] == "TLS"


def test_without_a_way_in_or_out_there_is_only_the_policy(config: Config, tmp_path: Path) -> None:
    make_private(tmp_path, ["mail.example.com"])
    lacking = replace(config, listen=Listen((), imaps=993))
    assert fixed_files(lacking) == []
    (policy,) = fixed_files(lacking, "version: STSv1\r\n")
    assert (policy.host, policy.path) == (f"mta-sts.{DOMAIN}", "/.well-known/mta-sts.txt")
    assert (policy.content_type, policy.octets) == ("text/plain", b"version: STSv1\r\n")


def test_the_shelf_has_the_same_files_and_makes_those_that_are_asked_for(config: Config, tmp_path: Path) -> None:
    make_private(tmp_path, ["mail.example.com"])
    shelf = FileShelf(config, "policy", read_identity(config.tls.default))
    files = fixed_files(config, "policy")
    assert len(files) == 6
    for one in files:
        page = shelf.find(one.host, one.path)
        assert page is not None and page.content_type == one.content_type
        assert page.takes_post == one.path.endswith("autodiscover.xml")
        if not one.path.endswith(".mobileconfig"):
            assert page.octets == one.octets
    assert shelf.find(DOMAIN, "/AutoDiscover/AutoDiscover.XML") == shelf.find(DOMAIN, "/autodiscover/autodiscover.xml")
    for host, path in ((DOMAIN, "/"), (f"www.{DOMAIN}", "/"), (f"mta-sts.{DOMAIN}", "/mail/config-v1.1.xml")):
        assert shelf.find(host, path) is None


# The commands.


@pytest.fixture
def line(tmp_path: Path) -> Line:
    ports = "imaps = 993\npop3s = 995\nsubmissions = 465"
    tables = '[invite]\ndomain = "guest.example.com"\n'
    return make_line(tmp_path, tables=tables, hostname="mail.example.com", ports=ports)


def written(folder: Path) -> set[str]:
    return {str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file()}


def test_static(line: Line, tmp_path: Path) -> None:
    folder = tmp_path / "web"
    shown = line.json("static", str(folder))
    expected = {
        f"{host}{path}"
        for domain in ("example.com", "guest.example.com")
        for host, path in (
            (f"autoconfig.{domain}", "/mail/config-v1.1.xml"),
            (f"autoconfig.{domain}", f"/mail/{domain}.mobileconfig"),
            (domain, "/.well-known/autoconfig/mail/config-v1.1.xml"),
            (domain, "/autodiscover/autodiscover.xml"),
            (f"autodiscover.{domain}", "/autodiscover/autodiscover.xml"),
        )
    }
    assert {one["host"] + one["path"] for one in shown} == expected
    assert written(folder) == expected | {"README.txt"}
    readme = (folder / "README.txt").read_text()
    assert all(one in readme for one in expected)
    assert all((folder / one).stat().st_mode & 0o777 == 0o644 for one in expected)
    configuration_of_domain = folder / "autoconfig.guest.example.com/mail/guest.example.com.mobileconfig"
    command = ["openssl", "cms", "-verify", "-inform", "DER", "-purpose", "any"]
    command += ["-in", str(configuration_of_domain), "-CAfile", str(tmp_path / "data" / "ca.pem")]
    profile = plistlib.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert "EmailAddress" not in profile["PayloadContent"][0]


def test_static_again_replaces_and_names_what_is_out_of_date(line: Line, tmp_path: Path) -> None:
    folder = tmp_path / "web"
    line.run("static", str(folder))
    line.config.write_text(line.config.read_text().replace("imaps = 993", "imaps = 1993").replace("guest.", "g."))
    again = line.run("static", str(folder))
    assert "1993" in (folder / "autoconfig.example.com/mail/config-v1.1.xml").read_text()
    assert "autoconfig.guest.example.com, autodiscover.guest.example.com, guest.example.com." in again.stderr
    assert not any(".config-v1.1" in one for one in written(folder)), "nothing half-written stays"


def test_static_with_a_certificate_by_others_has_the_policy(line: Line, tmp_path: Path) -> None:
    data = tmp_path / "data" / "tls"
    tls = f'[tls]\ncertificate = "{data / "chain.pem"}"\nkey = "{data / "key.pem"}"\n'
    line.config.write_text(line.config.read_text() + tls)
    line.run("static", str(tmp_path / "web"))
    policy = (tmp_path / "web" / "mta-sts.guest.example.com" / ".well-known" / "mta-sts.txt").read_bytes()
    assert policy == b"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmax_age: 604800\r\n"


def test_static_says_what_it_cannot_do(line: Line, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "example.com").write_text("")
    assert "cannot be written" in line.run("static", str(tmp_path / "web"), status=1).stderr
    line.config.write_text(line.config.read_text().replace("submissions = 465", ""))
    assert "nothing to write" in line.run("static", str(tmp_path / "other"), status=1).stderr
    assert not configuration.load(line.config).listen.submissions
