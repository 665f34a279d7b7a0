"""curl over imaps, pop3s, smtp and smtps, with the certificate verified."""

from collections.abc import Callable
from pathlib import Path

from clients_support import deliver, make_mail, read_all, run
from daemon import Account, Daemon

Find = Callable[[str], str]


def test_curl_reads_by_imap_and_pop3(daemon: Daemon, account: Account, program: Find, tmp_path: Path) -> None:
    curl = program("curl")
    deliver(daemon, account.address, make_mail("for curl", to=account.address))
    common = [curl, "-sS", "--cacert", str(daemon.ca_file), "-u", f"{account.address}:{account.password}"]
    by_imap = run(*common, f"imaps://localhost:{daemon.ports['imaps']}/INBOX/;MAILINDEX=1", home=tmp_path)
    by_pop = run(*common, f"pop3s://localhost:{daemon.ports['pop3s']}/1", home=tmp_path)
    assert "Subject: for curl" in by_imap
    assert by_imap.split() == by_pop.split()


def test_curl_sends_by_submission(daemon: Daemon, account: Account, program: Find, tmp_path: Path) -> None:
    curl = program("curl")
    mail = tmp_path / "mail"
    mail.write_bytes(f"From: {account.address}\r\nSubject: sent by curl\r\n\r\n.dots\r\n..two\r\n".encode())
    for url in (f"smtps://localhost:{daemon.ports['submissions']}", f"smtp://localhost:{daemon.ports['submission']}"):
        run(
            *(
                curl,
                "-sS",
                "--ssl-reqd",
                "--cacert",
                str(daemon.ca_file),
                "-u",
                f"{account.address}:{account.password}",
            ),
            *("--mail-from", account.address, "--mail-rcpt", account.address, "-T", str(mail), url),
            home=tmp_path,
        )
    contents = read_all(daemon, account)
    assert len(contents) == 2
    assert all(one.endswith(b"\r\n\r\n.dots\r\n..two\r\n") for one in contents)


def test_curl_appends_by_imap(daemon: Daemon, account: Account, program: Find, tmp_path: Path) -> None:
    curl = program("curl")
    mail = tmp_path / "mail"
    mail.write_bytes(make_mail("appended", to=account.address))
    run(
        *(curl, "-sS", "--cacert", str(daemon.ca_file), "-u", f"{account.address}:{account.password}"),
        *("-T", str(mail), f"imaps://localhost:{daemon.ports['imaps']}/Drafts"),
        home=tmp_path,
    )
    assert read_all(daemon, account, "Drafts") == [mail.read_bytes()]
