"""msmtp, s-nail and mutt, with the certificate verified."""

import os
import pty
import subprocess
import termios
from collections.abc import Callable
from pathlib import Path

from clients_support import deliver, make_mail, read_all, run
from daemon import Account, Daemon

Find = Callable[[str], str]


def test_msmtp_sends(daemon: Daemon, account: Account, program: Find, tmp_path: Path) -> None:
    rc = tmp_path / "msmtprc"
    rc.write_text(
        f"account default\nhost localhost\nport {daemon.ports['submissions']}\ntls on\ntls_starttls off\n"
        f"tls_trust_file {daemon.ca_file}\nauth on\nuser {account.address}\npassword {account.password}\n"
        f"from {account.address}\n"
    )
    rc.chmod(0o600)
    mail = f"From: {account.address}\nTo: {account.address}\nBcc: hidden@example.com\nSubject: by msmtp\n\nbody\n"
    run(program("msmtp"), "-C", str(rc), account.address, home=tmp_path, stdin=mail.encode())
    (content,) = read_all(daemon, account)
    assert b"Subject: by msmtp" in content
    assert b"hidden@" not in content


def test_s_nail_sends_and_reads(daemon: Daemon, account: Account, program: Find, tmp_path: Path) -> None:
    snail = program("s-nail")
    user = account.address.replace("@", "%40")
    settings = [
        *("-S", "v15-compat", "-S", "tls-verify=strict", "-S", f"tls-ca-file={daemon.ca_file}"),
        *(
            "-S",
            f"from={account.address}",
            "-S",
            f"mta=smtps://{user}:{account.password}@localhost:{daemon.ports['submissions']}",
        ),
        *("-S", "smtp-auth=plain", "-S", "sendwait", "-S", "tls-ca-no-defaults"),
    ]
    run(snail, "-:/", *settings, "-s", "by s-nail", account.address, home=tmp_path, stdin=b"body\n")
    (content,) = read_all(daemon, account)
    assert b"Subject: by s-nail" in content
    url = f"imaps://{user}:{account.password}@localhost:{daemon.ports['imaps']}"
    text = run(snail, "-:/", *settings, "-S", "imap-auth=login", "-R", "-H", "-f", url, home=tmp_path)
    assert "by s-nail" in text


def test_mutt_reads_and_saves(daemon: Daemon, account: Account, program: Find, tmp_path: Path) -> None:
    mutt = program("mutt")
    deliver(daemon, account.address, *(make_mail(f"for mutt {number}", to=account.address) for number in range(3)))
    box = tmp_path / "saved"
    rc = tmp_path / "muttrc"
    rc.write_text(
        f'set ssl_ca_certificates_file="{daemon.ca_file}"\nset certificate_file="{daemon.ca_file}"\n'
        "set ssl_usesystemcerts=no\nset ssl_force_tls=yes\nset imap_check_subscribed=no\n"
        f'set imap_user="{account.address}"\nset imap_pass="{account.password}"\n'
        "set confirmappend=no\nset confirmcreate=no\nset quit=yes\n"
        "set mbox_type=mbox\nset wait_key=no\nset sleep_time=0\n"
        f'push "<tag-pattern>~A<enter><tag-prefix><copy-message>{box}<enter><exit>"\n'
    )
    main, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    with subprocess.Popen(
        [mutt, "-F", str(rc), "-f", f"imaps://localhost:{daemon.ports['imaps']}/INBOX"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={"HOME": str(tmp_path), "TERM": "vt100", "PATH": os.environ["PATH"]},
    ) as process:
        os.close(terminal)
        shown = bytearray()
        try:
            while piece := os.read(main, 65536):
                shown += piece
        except OSError:
            pass  # the terminal is gone: mutt ended
        assert process.wait(60) == 0, shown.decode("latin-1")[-2000:]
    assert box.read_bytes().count(b"Subject: for mutt") == 3
