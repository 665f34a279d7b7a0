"""`certmaild user set` beside the running daemon: what it changes counts for the next command, without a restart."""

import poplib
import smtplib

from clients_support import deliver, log_in, make_mail, read_all
from daemon import Account, Daemon


def submit(daemon: Daemon, account: Account, subject: str) -> None:
    """Send to oneself, as a mail program does."""
    with smtplib.SMTP_SSL("localhost", daemon.ports["submissions"], context=daemon.tls_context(), timeout=60) as smtp:
        smtp.login(account.address, account.password)
        content = f"From: {account.address}\r\nSubject: {subject}\r\n\r\nbody\r\n"
        smtp.sendmail(account.address, [account.address], content)


def test_who_keeps_sent_copies_changes_while_the_daemon_runs(daemon: Daemon, account: Account) -> None:
    submit(daemon, account, "one")
    assert read_all(daemon, account, "Sent") == []
    daemon.command("user", "set", account.address, "--sent", "server")
    submit(daemon, account, "two")
    (copy,) = read_all(daemon, account, "Sent")
    assert b"Subject: two\r\n" in copy
    with log_in(daemon, account) as imap:
        imap.select("Sent")
        assert imap.search(None, "SEEN")[1] == [b"1"]
    daemon.command("user", "set", account.address, "--sent", "client")
    submit(daemon, account, "three")
    assert read_all(daemon, account, "Sent") == [copy]
    assert len(read_all(daemon, account)) == 3


def test_the_quota_changes_while_the_daemon_runs(daemon: Daemon, account: Account) -> None:
    with log_in(daemon, account) as imap:
        assert imap.append("INBOX", None, None, make_mail("one", to=account.address))[0] == "OK"
        daemon.command("user", "set", account.address, "--messages", "1")
        status, text = imap.append("INBOX", None, None, make_mail("two", to=account.address))
        assert (status, text[0][:11]) == ("NO", b"[OVERQUOTA]")
        daemon.command("user", "set", account.address, "--messages", "none")
        assert imap.append("INBOX", None, None, make_mail("two", to=account.address))[0] == "OK"


def unseen(daemon: Daemon, account: Account) -> list[bytes]:
    """Sequence numbers of INBOX without \\Seen."""
    with log_in(daemon, account) as imap:
        imap.select("INBOX", readonly=True)
        found: list[bytes] = imap.search(None, "UNSEEN")[1][0].split()
        return found


def test_retr_marks_a_message_seen_only_if_the_account_says_so(daemon: Daemon, account: Account) -> None:
    deliver(daemon, account.address, *(make_mail(f"n{number}", to=account.address) for number in range(3)))
    pop = poplib.POP3_SSL("localhost", daemon.ports["pop3s"], context=daemon.tls_context(), timeout=60)
    pop.user(account.address)
    pop.pass_(account.password)
    pop.retr(1)
    assert unseen(daemon, account) == [b"1", b"2", b"3"]
    daemon.command("user", "set", account.address, "--retrieve-marks-seen")
    pop.retr(2)
    assert unseen(daemon, account) == [b"1", b"3"]
    pop.top(3, 100)
    assert unseen(daemon, account) == [b"1", b"3"]
    pop.retr(1)
    pop.retr(1)
    assert unseen(daemon, account) == [b"3"]
    daemon.command("user", "set", account.address, "--retrieve-marks-nothing")
    pop.retr(3)
    pop.quit()
    assert unseen(daemon, account) == [b"3"]
