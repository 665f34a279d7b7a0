"""Configuration profiles, read back by OpenSSL's `cms` command and by `plistlib`."""

import plistlib
import ssl
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tls_support import authority

from certmaild.client_setup.profile import domain_profile, mobileconfig
from certmaild.client_setup.settings import Speaks, settings_for
from certmaild.config import default
from certmaild.config_values import Config, Listen
from certmaild.keystore.certificates import make_private
from certmaild.keystore.tls import read_identity


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("server")
    make_private(folder, ["mail.example.com"])
    return replace(
        default(folder),
        hostname="mail.example.com",
        domains=("example.com",),
        listen=Listen((), imaps=993, pop3s=995, submissions=465),
    )


def verified(octets: bytes, config: Config) -> dict[str, Any]:
    """The profile, if its signature is by the server's certificate and that is by the authority."""
    command = ["openssl", "cms", "-verify", "-inform", "DER", "-purpose", "any"]
    command += ["-CAfile", str(config.data / "ca.pem")]
    done = subprocess.run(command, input=octets, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = plistlib.loads(done.stdout)
    return found


def test_an_account(config: Config) -> None:
    account = "bob.gmail.com@guest.example.com"
    profile = verified(mobileconfig(config, settings_for(config, account)), config)
    mail, root = profile["PayloadContent"]
    assert profile["PayloadType"] == "Configuration"
    assert mail["PayloadType"] == "com.apple.mail.managed"
    assert mail["EmailAddress"] == account
    assert mail["EmailAccountType"] == "EmailTypeIMAP"
    assert (mail["IncomingMailServerHostName"], mail["IncomingMailServerPortNumber"]) == ("mail.example.com", 993)
    assert (mail["OutgoingMailServerHostName"], mail["OutgoingMailServerPortNumber"]) == ("mail.example.com", 465)
    assert mail["IncomingMailServerUseSSL"] is mail["OutgoingMailServerUseSSL"] is True
    assert mail["IncomingMailServerUsername"] == mail["OutgoingMailServerUsername"] == account
    assert mail["OutgoingPasswordSameAsIncomingPassword"] is True
    assert "IncomingPassword" not in mail
    assert root["PayloadType"] == "com.apple.security.root"
    assert ssl.DER_cert_to_PEM_cert(root["PayloadContent"]).strip() == (config.data / "ca.pem").read_text().strip()
    identifiers = [one["PayloadUUID"] for one in (profile, mail, root)]
    assert len(set(identifiers)) == 3


def test_a_new_profile_replaces_the_old_and_other_accounts_have_others(config: Config) -> None:
    settings = settings_for(config, "ann@example.com")
    one, again = (verified(mobileconfig(config, settings, password=given), config) for given in ("A", "B"))
    other = verified(mobileconfig(config, settings_for(config, "eve@example.com")), config)
    assert one["PayloadUUID"] == again["PayloadUUID"] != other["PayloadUUID"]
    assert one["PayloadIdentifier"] == again["PayloadIdentifier"] != other["PayloadIdentifier"]
    assert [each["PayloadContent"][0]["IncomingPassword"] for each in (one, again)] == ["A", "B"]


def test_pop3(config: Config) -> None:
    settings = settings_for(config, "ann@example.com")
    mail = verified(mobileconfig(config, settings, by=Speaks.POP3), config)["PayloadContent"][0]
    assert mail["EmailAccountType"] == "EmailTypePOP"
    assert mail["IncomingMailServerPortNumber"] == 995


def test_of_a_domain_the_device_asks_for_name_and_password(config: Config) -> None:
    mail = verified(domain_profile(config, "example.com", read_identity(config.tls.default)), config)["PayloadContent"][
        0
    ]
    assert not {"EmailAddress", "IncomingMailServerUsername", "IncomingPassword"} & mail.keys()


def test_without_a_listener_there_is_no_profile(config: Config) -> None:
    lacking = replace(config, listen=Listen((), imaps=993))
    with pytest.raises(ValueError, match="SMTP"):
        mobileconfig(lacking, settings_for(lacking, "ann@example.com"))


def test_a_key_that_such_signatures_do_not_know_leaves_it_unsigned(config: Config, tmp_path: Path) -> None:
    made = authority("world").issue("mail.example.com", key=Ed25519PrivateKey.generate())
    (tmp_path / "chain.pem").write_bytes(made.chain_pem)
    (tmp_path / "key.pem").write_bytes(made.key_pem)
    files = replace(config.tls.default, certificate=tmp_path / "chain.pem", key=tmp_path / "key.pem")
    public = replace(config, tls=replace(config.tls, default=files, private=False))
    profile = plistlib.loads(mobileconfig(public, settings_for(public, "ann@example.com")))
    assert [one["PayloadType"] for one in profile["PayloadContent"]] == ["com.apple.mail.managed"]
