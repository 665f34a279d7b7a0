"""One message in Sent with ``sent = "server"``: an IMAP client that files its own copy beside a submission."""

import imaplib
import smtplib
from threading import Thread

import pytest
from clients_support import log_in, read_all
from daemon import Account, Daemon

SENT_BY_CLIENT = "X-Copy: the client's\r\n"


@pytest.fixture
def sender(daemon: Daemon, account: Account) -> Account:
    """An account whose sent copies the server keeps."""
    daemon.command("user", "set", account.address, "--sent", "server")
    return account


def letter(account: Account, name: str) -> str:
    return f"From: {account.address}\r\nMessage-ID: <{name}@example.com>\r\nSubject: {name}\r\n\r\nbody\r\n"


def submit(daemon: Daemon, account: Account, *names: str) -> None:
    with smtplib.SMTP_SSL("localhost", daemon.ports["submissions"], context=daemon.tls_context(), timeout=60) as smtp:
        smtp.login(account.address, account.password)
        for name in names:
            smtp.sendmail(account.address, [account.address], letter(account, name))


def file_copy(imap: imaplib.IMAP4_SSL, account: Account, name: str) -> None:
    content = SENT_BY_CLIENT + letter(account, name)
    status, answer = imap.append("Sent", "(\\Seen)", None, content.encode())
    assert status == "OK", answer


def in_sent(daemon: Daemon, account: Account) -> list[bool]:
    """Of each message in Sent: whether the client filed it."""
    return [content.startswith(SENT_BY_CLIENT.encode()) for content in read_all(daemon, account, "Sent")]


def test_a_client_files_its_copy_after_it_was_sent(daemon: Daemon, sender: Account) -> None:
    with log_in(daemon, sender) as imap:
        imap.select("Sent")
        submit(daemon, sender, "one")
        imap.noop()
        assert imap.response("EXISTS")[1][-1] == b"1"
        file_copy(imap, sender, "one")
        imap.noop()
        assert imap.response("EXPUNGE")[1] == [b"1"]
        assert imap.uid("SEARCH", "ALL")[1] == [b"2"]
    assert in_sent(daemon, sender) == [True]


def test_a_client_files_its_copy_before_the_servers_was_seen_by_any_session(daemon: Daemon, sender: Account) -> None:
    submit(daemon, sender, "one")
    with log_in(daemon, sender) as imap:
        file_copy(imap, sender, "one")
    assert in_sent(daemon, sender) == [True]


def test_a_client_files_its_copy_before_it_is_sent(daemon: Daemon, sender: Account) -> None:
    with log_in(daemon, sender) as imap:
        imap.select("Sent")
        file_copy(imap, sender, "one")
        submit(daemon, sender, "one", "two")
        imap.noop()
        # The server's copy of "one" never had a UID: nothing is expunged and none is left out.
        assert imap.response("EXPUNGE")[1] == [None]
        assert imap.uid("SEARCH", "ALL")[1] == [b"1 2"]
    assert in_sent(daemon, sender) == [True, False]


def test_many_at_once_with_multiappend_and_literals_of_both_kinds(daemon: Daemon, sender: Account) -> None:
    submit(daemon, sender, "one", "two", "three")
    first, second = ((SENT_BY_CLIENT + letter(sender, name)).encode() for name in ("one", "three"))
    with log_in(daemon, sender) as imap:
        imap.send(b"z APPEND Sent (\\Seen) {%d+}\r\n%b ~{%d+}\r\n%b\r\n" % (len(first), first, len(second), second))
        answer = b""
        while not answer.startswith(b"z "):
            answer = imap.readline()
        assert answer.startswith(b"z OK [APPENDUID "), answer
    assert sorted(in_sent(daemon, sender)) == [False, True, True]


def test_one_is_left_whoever_comes_first(daemon: Daemon, sender: Account) -> None:
    names = [f"n{number}" for number in range(20)]

    def file_copies() -> None:
        with log_in(daemon, sender) as imap:
            for name in names:
                file_copy(imap, sender, name)

    threads = [Thread(target=file_copies), Thread(target=submit, args=(daemon, sender, *names))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert in_sent(daemon, sender) == [True] * len(names)
