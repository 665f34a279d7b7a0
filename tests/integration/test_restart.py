"""What a stop and a start of the real daemon leave as it was, and what a start refuses."""

import os
import poplib
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from clients_support import deliver, log_in, make_mail, read_all
from daemon import BIN, Account, Daemon, free_ports


@pytest.fixture
def own_daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon of the test's own, to stop and start."""
    with Daemon(tmp_path / "daemon") as running:
        yield running


def unique_ids(daemon: Daemon, account: Account, *, delete: int | None = None) -> list[bytes]:
    """UIDL, before message ``delete`` is deleted."""
    pop = poplib.POP3_SSL("localhost", daemon.ports["pop3s"], context=daemon.tls_context(), timeout=60)
    pop.user(account.address)
    pop.pass_(account.password)
    listed = pop.uidl()[1]
    for number, line in enumerate(listed, 1):
        assert pop.uidl(number) == b"+OK " + line
    if delete is not None:
        pop.dele(delete)
    pop.quit()
    return [line.split()[1] for line in listed]


def test_uidl_is_the_same_after_a_restart(own_daemon: Daemon) -> None:
    account = own_daemon.add_user("ann")
    deliver(own_daemon, account.address, *(make_mail(f"n{number}", to=account.address) for number in range(3)))
    before = unique_ids(own_daemon, account)
    # One that waits sealed over the restart, and one that is copied within the folder.
    deliver(own_daemon, account.address, make_mail("waits", to=account.address))
    with log_in(own_daemon, account) as imap:
        imap.select("INBOX")
        assert imap.copy("1", "INBOX")[0] == "OK"
    with_more = unique_ids(own_daemon, account)
    assert with_more[:3] == before
    assert len(set(with_more)) == 5
    deliver(own_daemon, account.address, make_mail("waits longer", to=account.address))
    own_daemon.stop()
    own_daemon.start()
    after = unique_ids(own_daemon, account, delete=2)
    assert after[:5] == with_more
    assert len(set(after)) == 6
    own_daemon.kill()
    own_daemon.start()
    assert unique_ids(own_daemon, account) == [after[0], *after[2:]]


def test_a_new_pepper_counts_from_the_next_start_and_is_missed_when_it_is_lost(own_daemon: Daemon) -> None:
    ann, bob = own_daemon.add_user("ann"), own_daemon.add_user("bob", password="correct horse")
    for account in (ann, bob):
        deliver(own_daemon, account.address, make_mail("hello", to=account.address))
    own_daemon.stop()
    pepper = own_daemon.data / "secrets" / "pepper-2"
    pepper.write_bytes(os.urandom(32))
    pepper.chmod(0o600)
    own_daemon.start()
    for account in (ann, bob):
        assert len(read_all(own_daemon, account)) == 1
    own_daemon.command("user", "password", bob.address, stdin=f"{bob.recovery_code}\nnew horse\n")
    assert len(read_all(own_daemon, Account(bob.address, "new horse", ""))) == 1
    own_daemon.stop()
    kept = pepper.read_bytes()
    pepper.unlink()
    with suppress(RuntimeError):  # It listens for a moment before it looks at the store.
        own_daemon.start()
    assert own_daemon.process is not None
    assert own_daemon.process.wait(60) == 1
    own_daemon.process = None
    assert "the server secret pepper-2, with which the store was made, is missing" in own_daemon.log.read_text()
    pepper.write_bytes(kept)
    pepper.chmod(0o600)
    own_daemon.start()
    assert len(read_all(own_daemon, ann)) == 1


def test_a_restored_store_without_its_certificate_is_told_what_to_do(own_daemon: Daemon) -> None:
    account = own_daemon.add_user("ann")
    deliver(own_daemon, account.address, make_mail("hello", to=account.address))
    own_daemon.stop()
    shutil.rmtree(own_daemon.data / "tls")
    own_daemon.ca_file.unlink()
    assert "Put back the copies of tls/ and ca.pem" in refused(own_daemon, own_daemon.config)
    own_daemon.command("init", "--hostname", "localhost", "--domain", own_daemon.domain)
    own_daemon.start()
    assert len(read_all(own_daemon, account)) == 1


def refused(daemon: Daemon, config: Path) -> str:
    """What a start with another configuration says before it ends with 1."""
    words = [str(BIN / "twistd"), "-n", "--pidfile=", "certmaild", "--config", str(config)]
    done = subprocess.run(words, cwd=daemon.folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("workers", [0, 1])
def test_a_second_daemon_over_one_store_is_refused(own_daemon: Daemon, workers: int) -> None:
    other = own_daemon.folder / "other.toml"
    text = own_daemon.config.read_text().replace("workers = 0", f"workers = {workers}")
    for port, another in zip(own_daemon.ports.values(), free_ports(len(own_daemon.ports)), strict=True):
        text = text.replace(f"= {port}", f"= {another}")
    other.write_text(text)
    said = refused(own_daemon, other)
    assert f"a certmaild (process {own_daemon.pid}) serves the store" in said
    assert "stop it first" in said
    account = own_daemon.add_user("ann")
    deliver(own_daemon, account.address, make_mail("hello", to=account.address))
    assert len(read_all(own_daemon, account)) == 1


def test_a_damaged_store_is_refused_in_words(own_daemon: Daemon) -> None:
    own_daemon.stop()
    (own_daemon.data / "store" / "data.mdb").write_bytes(bytes(8192))
    assert "put the last backup in its place" in refused(own_daemon, own_daemon.config)


def test_a_start_without_room_says_so(tmp_path: Path) -> None:
    with Daemon(tmp_path / "daemon", settings='free_disk = "900TB"') as daemon:
        assert "none: new mail is refused" in daemon.command("status")
        daemon.stop()
        assert "has less than free_disk (900000000000000 octets) left; make room" in daemon.log.read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_data_of_another_user_is_refused_in_words(own_daemon: Daemon) -> None:
    own_daemon.stop()
    words = [str(BIN / "twistd"), "-n", "--pidfile=", "--uid", "65534", "--gid", "65534"]
    words += ["certmaild", "--config", str(own_daemon.config)]
    done = subprocess.run(words, cwd=own_daemon.folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "Permission denied; the user that the server runs as must be able to" in done.stdout
