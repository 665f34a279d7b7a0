"""What the daemon does when told: SIGTERM, SIGHUP, a second start, a wrong configuration, an empty folder."""

import imaplib
import json
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from clients_support import log_in
from daemon import BIN, Daemon


@pytest.fixture
def own(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A daemon that the test may stop."""
    with Daemon(tmp_path) as running:
        yield running


def test_sigterm_says_bye_and_ends(own: Daemon) -> None:
    account = own.add_user("ann")
    imap = log_in(own, account)
    smtp = socket.create_connection(("127.0.0.1", own.ports["smtp"]), timeout=30)
    smtp.recv(1000)
    # twistd ends itself by the signal that ended it; systemd takes that for a clean exit.
    assert own.stop() in (0, -signal.SIGTERM)
    assert imap.readline().startswith(b"* BYE")
    assert smtp.recv(1000).startswith(b"421 4.3.2")


def test_sigterm_drops_an_unfinished_append(own: Daemon) -> None:
    account = own.add_user("ann")
    imap = log_in(own, account)
    imap.send(b"a APPEND INBOX {100000+}\r\nSubject: half\r\n")
    assert own.process is not None
    own.process.send_signal(signal.SIGTERM)
    assert imap.readline().startswith(b"* BYE")
    imap.shutdown()
    assert own.process.wait(10) in (0, -signal.SIGTERM)
    own.start()
    assert log_in(own, account).select("INBOX")[1] == [b"0"]


def test_sighup_takes_a_new_certificate_and_keeps_sessions(own: Daemon) -> None:
    account = own.add_user("ann")

    def serial() -> int:
        with (
            socket.create_connection(("127.0.0.1", own.ports["imaps"]), timeout=30) as raw,
            own.tls_context().wrap_socket(raw, server_hostname="localhost") as tls,
        ):
            return int(tls.getpeercert()["serialNumber"], 16)

    imap = log_in(own, account)
    before = serial()
    script = """if True:
        import pathlib, sys
        from certmaild.keystore.certificates import renew_leaf
        renew_leaf(pathlib.Path(sys.argv[1]), ["localhost"])
    """
    subprocess.run([str(BIN / "python"), "-c", script, str(own.data)], check=True)
    assert own.process is not None
    own.process.send_signal(signal.SIGHUP)
    for _ in range(200):
        if serial() != before:
            break
    assert serial() != before
    assert imap.noop()[0] == "OK"


def test_a_folder_without_set_up_is_refused_in_words(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(BIN / "twistd"), "--pidfile=", "--logfile=log", "certmaild"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "certmaild init" in done.stdout + done.stderr


def test_unknown_key_is_refused_with_file_and_key(own: Daemon) -> None:
    bad = own.folder / "bad.toml"
    bad.write_text(own.config.read_text() + "\n[limits]\nmesage_size = 3\n")
    done = subprocess.run(
        [str(BIN / "twistd"), "-n", "--pidfile=", "certmaild", "--config", str(bad)],
        cwd=own.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "bad.toml" in done.stdout + done.stderr
    assert "mesage_size" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_alpn_of_a_web_client_is_fatal(own: Daemon) -> None:
    context = own.tls_context()
    context.set_alpn_protocols(["http/1.1"])
    with socket.create_connection(("127.0.0.1", own.ports["imaps"]), timeout=30) as raw, pytest.raises(ssl.SSLError):
        context.wrap_socket(raw, server_hostname="localhost")


def test_revoked_device_loses_its_session(own: Daemon) -> None:
    account = own.add_user("ann", password="correct horse battery staple")
    added = own.command("device", "add", account.address, "--name", "phone", "--json", stdin=account.password + "\n")
    device = json.loads(added)
    imap = imaplib.IMAP4_SSL("localhost", own.ports["imaps"], ssl_context=own.tls_context(), timeout=30)
    imap.login(account.address, device["device_password"])
    own.command("device", "revoke", account.address, device["id"])
    assert imap.readline().startswith(b"* BYE")
