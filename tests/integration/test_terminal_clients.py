"""msmtp, s-nail and mutt, with the certificate verified."""

from collections.abc import Callable
from pathlib import Path

import pytest
from clients_support import deliver, log_in, make_mail, read_all, run
from daemon import Account, Daemon
from terminal_support import Terminal

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


def write_muttrc(rc: Path, daemon: Daemon, account: Account) -> Path:
    """A mutt that reads by IMAP, sends by SMTP and files what it sent by IMAP, certificates verified."""
    user = account.address.replace("@", "%40")
    rc.write_text(
        f'set ssl_ca_certificates_file="{daemon.ca_file}"\nset ssl_force_tls=yes\n'
        f'set imap_user="{account.address}"\nset imap_pass="{account.password}"\n'
        f'set smtp_url="smtps://{user}@localhost:{daemon.ports["submissions"]}/"\nset smtp_pass="{account.password}"\n'
        f'set from="{account.address}"\nset copy=yes\nset confirmcreate=no\nset confirmappend=no\n'
        f'set record="imaps://localhost:{daemon.ports["imaps"]}/Sent"\n'
    )
    return rc


def test_mutt_sends_and_keeps_a_copy_by_imap(daemon: Daemon, account: Account, program: Find, tmp_path: Path) -> None:
    rc = write_muttrc(tmp_path / "muttrc", daemon, account)
    run(
        *(program("mutt"), "-F", str(rc), "-s", "by mutt", "--", account.address),
        home=tmp_path,
        stdin=b"body\n",
        timeout_s=30,
    )
    (content,) = read_all(daemon, account)
    assert b"Subject: by mutt" in content
    (copy,) = read_all(daemon, account, "Sent")
    assert b"Subject: by mutt" in copy


@pytest.mark.parametrize("first", ["yes", "no"], ids=["filed before it is sent", "filed after it was sent"])
def test_mutt_and_the_server_keep_one_copy_together(
    daemon: Daemon, account: Account, program: Find, tmp_path: Path, first: str
) -> None:
    daemon.command("user", "set", account.address, "--sent", "server")
    rc = write_muttrc(tmp_path / "muttrc", daemon, account)
    words = (program("mutt"), "-F", str(rc), "-e", f"set fcc_before_send={first}", "-s", "once")
    run(*words, "--", account.address, home=tmp_path, stdin=b"body\n", timeout_s=30)
    assert len(read_all(daemon, account)) == 1
    (copy,) = read_all(daemon, account, "Sent")
    assert b"Subject: once" in copy
    with log_in(daemon, account) as imap:
        status, answer = imap.status("Sent", "(MESSAGES UIDNEXT)")
    # Two UIDs were given only where the server's copy was there first.
    assert (status, answer[0].split()[-1]) == ("OK", b"2)" if first == "yes" else b"3)")


def test_mutt_reads_a_message_on_a_terminal(daemon: Daemon, account: Account, program: Find, tmp_path: Path) -> None:
    """As a person does: the index shows the subject, Enter the text; deleting and leaving expunges."""
    # Words without a letter in the same place: a screen program writes only what differs.
    for subject, text in (("first-subject", "plainly-readable"), ("SECOND-ONE", "NOTAWORDOFITTHESAME")):
        deliver(daemon, account.address, make_mail(subject, text + "\r\n", to=account.address))
    rc = write_muttrc(tmp_path / "muttrc", daemon, account)
    (tmp_path / "Mail").mkdir()
    inbox = f"imaps://localhost:{daemon.ports['imaps']}/INBOX"
    with Terminal(program("mutt"), "-F", str(rc), "-e", "set delete=yes", "-f", inbox, home=tmp_path) as mutt:
        mutt.wait_for("first-subject")
        mutt.type("1\n\n")
        assert "first-subject" in mutt.wait_for("plainly-readable")
        mutt.type("j")
        mutt.wait_for("NOTAWORDOFITTHESAME")
        mutt.type("d")
        mutt.type("qq")
        assert mutt.end() == 0
    with log_in(daemon, account) as imap:
        imap.select("INBOX")
        assert imap.search(None, "SEEN")[1] == [b"1"]
        assert imap.search(None, "ALL")[1] == [b"1"]
