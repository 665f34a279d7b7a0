"""The lines that `certmaild partner hello` gives for Postfix, in a real Postfix that talks to the real server."""

import json
import signal
import smtplib
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clients_support import SENDER, make_mail, read_all, run
from daemon import Daemon
from postfix import Postfix
from postfix_support import running_postfix
from receiving_support import open_folder
from server import free_ports

DELIVERY_TIME_S = 60


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon whose key the test may change."""
    with Daemon(tmp_path / "daemon") as running:
        yield running


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


def given_lines(own: Daemon, folder: Path) -> dict[str, str]:
    """What to put where: the files by name, in ``folder`` in place of /etc/postfix; "pins" is the other tls_policy."""
    found: dict[str, str] = {}
    for one in json.loads(own.command("partner", "hello", "partner.example", "--for", "postfix", "--json"))["postfix"]:
        name = "pins" if "keys alone" in one["where"] else one["where"].split(",")[0].rsplit("/", 1)[-1]
        found[name] = found.get(name, "") + one["text"].replace("/etc/postfix", str(folder)) + "\n"
    return found


def put(given: dict[str, str], folder: Path, policy: str) -> list[str]:
    """Make the maps as the lines say; what else belongs into main.cf, where the last line of a name counts."""
    files = {**given, "tls_policy": given[policy]}
    for name in [name for name in files if name not in ("main.cf", "as root", "pins")]:
        (folder / name).write_text(files[name])
    for words in given["as root"].split("&&")[1:2]:
        run(*words.split()[:1], *(str(folder / name) for name in words.split()[1:]), home=folder)
    return [*given["main.cf"].splitlines(), "relayhost =", "smtp_tls_CAfile =", "smtp_tls_security_level = none"]


def deliver(postfix: Postfix, address: str, subject: str) -> None:
    postfix.send(SENDER, make_mail(subject, to=address), address)


def roll(own: Daemon) -> None:
    """Let the next key serve."""
    own.command("cert", "roll", "--force")
    assert own.process is not None
    begun = own.log.stat().st_size
    own.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + DELIVERY_TIME_S
    while b"reloaded certificates" not in own.log.read_bytes()[begun:]:
        assert time.monotonic() < deadline, own.log.read_text()[-2000:]
        time.sleep(0.02)


@pytest.mark.parametrize("policy", ["tls_policy", "pins"])
def test_postfix_delivers_by_the_lines_over_a_change_of_keys(
    own: Daemon, program: Callable[[str], str], folder: Path, tmp_path: Path, policy: str
) -> None:
    account = own.add_user("ann")
    own.command("cert", "next")
    settings = put(given_lines(own, folder), folder, policy)
    hop = f"[localhost]:{own.ports['smtp']}"
    assert "servername=localhost" in run(program("postmap"), "-q", hop, str(folder / "tls_policy"), home=tmp_path)
    with running_postfix(own, *settings) as postfix:
        deliver(postfix, account.address, "one")
        assert "Verified TLS connection" in postfix.await_log("status=sent", 1)
        # The key to come: who goes by pins was told of it, who goes by the authority need not be.
        roll(own)
        deliver(postfix, account.address, "two")
        postfix.await_log("status=sent", 2)
        # A key that nobody was told of.
        own.command("cert", "next")
        roll(own)
        deliver(postfix, account.address, "three")
        if policy == "pins":
            assert "Server certificate not verified" in postfix.await_log("status=deferred", 1)
        else:
            postfix.await_log("status=sent", 3)
    assert len(read_all(own, account)) == (2 if policy == "pins" else 3)


def test_postfix_takes_mail_in_our_name_over_tls_only(
    own: Daemon, program: Callable[[str], str], folder: Path, tmp_path: Path
) -> None:
    settings = put(given_lines(own, folder), folder, "tls_policy")
    settings += ["mydestination = partner.example", "local_recipient_maps =", "myorigin = partner.example"]
    tls = own.data / "tls"
    settings += [f"smtpd_tls_chain_files = {tls / 'key.pem'}, {tls / 'chain.pem'}"]
    (port,) = free_ports(1)
    with running_postfix(own, *settings, port=port), smtplib.SMTP("127.0.0.1", port) as client:
        answers = []
        for sender in ("ann@example.com", "eve@elsewhere.example"):
            client.mail(sender)
            answers.append(client.rcpt("bob@partner.example"))
            client.rset()
        assert answers[0][0] // 100 in (4, 5) and b"encryption" in answers[0][1].lower()
        assert answers[1][0] == 250
        context = ssl.create_default_context(cafile=str(own.ca_file))
        context.check_hostname = False
        client.starttls(context=context)
        client.ehlo()
        client.mail("ann@example.com")
        assert client.rcpt("bob@partner.example")[0] == 250
