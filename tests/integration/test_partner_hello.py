"""The lines that `certmaild partner hello` gives for Postfix, in a real Postfix that talks to the real server."""

import json
import signal
import smtplib
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clients_support import make_mail, read_all, run
from daemon import Daemon
from postfix_support import Find, running_postfix
from server import free_ports

DELIVERY_TIME_S = 60


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon whose key the test may change."""
    with Daemon(tmp_path / "daemon") as running:
        yield running


def given_lines(own: Daemon, folder: Path) -> dict[str, str]:
    """What to put where: the files by name, in ``folder`` in place of /etc/postfix; "pins" is the other tls_policy."""
    found: dict[str, str] = {}
    for one in json.loads(own.command("partner", "hello", "partner.example", "--for", "postfix", "--json"))["postfix"]:
        name = "pins" if "keys alone" in one["where"] else one["where"].split(",")[0].rsplit("/", 1)[-1]
        found[name] = found.get(name, "") + one["text"].replace("/etc/postfix", str(folder)) + "\n"
    return found


def put(given: dict[str, str], folder: Path, policy: str) -> list[str]:
    """Make the maps as the lines say; what else belongs into main.cf, where the last line of a name counts."""
    folder.mkdir()
    files = {**given, "tls_policy": given[policy]}
    for name in [name for name in files if name not in ("main.cf", "as root", "pins")]:
        (folder / name).write_text(files[name])
    for words in given["as root"].split("&&")[1:2]:
        run(*words.split()[:1], *(str(folder / name) for name in words.split()[1:]), home=folder)
    return [*given["main.cf"].splitlines(), "relayhost =", "smtp_tls_CAfile =", "smtp_tls_security_level = none"]


def deliver(config: Path, program: Find, home: Path, address: str, subject: str) -> None:
    content = make_mail(subject, to=address).replace(b"\r\n", b"\n")
    words = (program("sendmail"), "-C", str(config), "-f", "bob@partner.example", "-i", address)
    run(*words, home=home, stdin=content)


def await_log(config: Path, text: str, count: int) -> str:
    """The log, once it has a text so often."""
    log = config.parent / "queue" / "maillog"
    deadline = time.monotonic() + DELIVERY_TIME_S
    while (found := log.read_text() if log.exists() else "").count(text) < count:
        assert time.monotonic() < deadline, found[-3000:]
        time.sleep(0.1)  # Postfix gives no event to wait on
    return found


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
    own: Daemon, program: Find, tmp_path: Path, policy: str
) -> None:
    account = own.add_user("ann")
    own.command("cert", "next")
    folder = tmp_path / "given"
    settings = put(given_lines(own, folder), folder, policy)
    hop = f"[localhost]:{own.ports['smtp']}"
    assert "servername=localhost" in run(program("postmap"), "-q", hop, str(folder / "tls_policy"), home=tmp_path)
    with running_postfix(own, program, tmp_path, *settings) as config:
        deliver(config, program, tmp_path, account.address, "one")
        assert "Verified TLS connection" in await_log(config, "status=sent", 1)
        # The key to come: who goes by pins was told of it, who goes by the authority need not be.
        roll(own)
        deliver(config, program, tmp_path, account.address, "two")
        await_log(config, "status=sent", 2)
        # A key that nobody was told of.
        own.command("cert", "next")
        roll(own)
        deliver(config, program, tmp_path, account.address, "three")
        if policy == "pins":
            assert "Server certificate not verified" in await_log(config, "status=deferred", 1)
        else:
            await_log(config, "status=sent", 3)
    assert len(read_all(own, account)) == (2 if policy == "pins" else 3)


def test_postfix_takes_mail_in_our_name_over_tls_only(own: Daemon, program: Find, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    settings = put(given_lines(own, folder), folder, "tls_policy")
    settings += ["mydestination = partner.example", "local_recipient_maps =", "myorigin = partner.example"]
    tls = own.data / "tls"
    # Without a log file: nobody reads it here, and postlogd has been seen to keep smtpd waiting for ever.
    settings += [f"smtpd_tls_chain_files = {tls / 'key.pem'}, {tls / 'chain.pem'}", "maillog_file ="]
    (port,) = free_ports(1)
    with running_postfix(own, program, tmp_path, *settings, port=port), smtplib.SMTP("127.0.0.1", port) as client:
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
