"""A member writes to domains of a signed zone: the real daemon finds their servers by DNS and proves them by DANE."""

import json
import smtplib
import ssl
import time
from collections.abc import Iterator
from typing import Any

import pytest
import tls_support
from daemon import Account, Daemon
from dns_support import DnsNetwork, tlsa
from smtp_peer_support import Peer

ADDRESSES = {"right": "127.0.77.1", "wrong": "127.0.77.2"}
PATIENCE_S = 60
MAIL = "From: {sender}\r\nTo: {to}\r\nSubject: by DANE\r\n\r\nHello.\r\n"


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Peer]]:
    """Servers at port 25 of two addresses, with certificates by nobody."""
    made: dict[str, Peer] = {}
    for name, address in ADDRESSES.items():
        certificate = tls_support.self_signed("nobody.example")
        try:
            peer = Peer(certificate.server(tmp_path_factory.mktemp(name)), address=address, port=25)
        except (PermissionError, OSError) as fault:
            pytest.skip(f"no server can listen to {address}:25 here: {fault}")
        peer.spki = certificate.spki  # type: ignore[attr-defined]
        made[name] = peer
    yield made
    for peer in made.values():
        peer.__exit__()


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory, peers: dict[str, Peer]) -> Iterator[tuple[Daemon, Account]]:
    folder = tmp_path_factory.mktemp("dane")
    of_right, other = (tlsa(peers[name].spki) for name in ADDRESSES)  # type: ignore[attr-defined]
    zones = {
        "right.test": f"@ MX 10 mx\nmx A {ADDRESSES['right']}\n_25._tcp.mx TLSA {of_right}\n",
        "wrong.test": f"@ MX 10 mx\nmx A {ADDRESSES['wrong']}\n_25._tcp.mx TLSA {of_right}\n",
        "none.test": "@ MX 0 .\n",
    }
    assert of_right != other
    with DnsNetwork(folder, zones, signed=["right.test", "wrong.test"]) as network:
        tables = f'[outbound]\nlevel = "dane-only"\nloopback = true\n[resolver]\naddresses = ["{network.resolver}"]\n'
        with Daemon(folder / "server", tables=tables) as daemon:
            yield daemon, daemon.add_user("ann")


def submit(daemon: Daemon, account: Account, to: str) -> None:
    context = ssl.create_default_context(cafile=str(daemon.ca_file))
    with smtplib.SMTP_SSL("localhost", daemon.ports["submissions"], context=context, timeout=PATIENCE_S) as smtp:
        smtp.login(account.address, account.password)
        smtp.sendmail(account.address, [to], MAIL.format(sender=account.address, to=to))


def awaited(daemon: Daemon, to: str, said: str) -> dict[str, Any]:
    """The one message to an address, once its fate says so."""
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        text = daemon.command("queue", "list", "--done", "--to", to, "--json")
        if said in text:
            return json.loads(text)  # type: ignore[no-any-return]
        time.sleep(0.2)
    raise AssertionError(f"{text}\n{daemon.log.read_text()[-3000:]}")


def test_a_key_that_dane_names_gets_the_mail(sender: tuple[Daemon, Account], peers: dict[str, Peer]) -> None:
    daemon, account = sender
    submit(daemon, account, "bob@right.test")
    awaited(daemon, "bob@right.test", "DANE 3 1 1")
    (message,) = peers["right"].messages
    assert b"Subject: by DANE" in message
    assert all(command in peers["right"].commands_in_tls for command in peers["right"].commands if b"MAIL" in command)


def test_another_key_gets_nothing(sender: tuple[Daemon, Account], peers: dict[str, Peer]) -> None:
    daemon, account = sender
    submit(daemon, account, "bob@wrong.test")
    awaited(daemon, "bob@wrong.test", "TLSA")
    assert peers["wrong"].messages == []
    assert "MAIL" not in peers["wrong"].verbs()


def test_a_domain_that_takes_no_mail(sender: tuple[Daemon, Account]) -> None:
    daemon, account = sender
    submit(daemon, account, "bob@none.test")
    awaited(daemon, "bob@none.test", "5.1.10")
