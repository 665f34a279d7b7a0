"""poplib over real TLS, certificates verified, against the POP3 server and mailbox in a process of their own."""

import poplib
from collections.abc import Iterator
from pathlib import Path

import pytest
from mailbox_support import PREFIX
from pop3_support import ADDRESS, MAIL, PASSWORD
from program_support import Program

DOTS = b"Subject: dots\r\n\r\n.\r\n..two\r\nbody\r\n.end\r\n"
NO_FINAL_CRLF = b"Subject: cut short\r\n\r\nno end"
LARGE = b"Subject: large\r\n\r\n" + (b"." + b"x" * 97 + b"\r\n") * 8_000


class Daemon(Program):
    def command(self, word: str, octets: bytes = b"") -> str:
        return self.ask(f"{word} {octets.hex()}")

    def restart(self) -> None:
        self.port = int(self.command("restart"))

    def log_in(self) -> poplib.POP3_SSL:
        client = poplib.POP3_SSL("localhost", self.port, context=self.context, timeout=30)
        client.user(ADDRESS)
        client.pass_(PASSWORD)
        return client


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon("pop3_daemon.py", tmp_path) as daemon:
        yield daemon


def sizes_of(client: poplib.POP3_SSL) -> list[int]:
    return [int(line.split()[1]) for line in client.list()[1]]


def unique_ids(client: poplib.POP3_SSL) -> list[bytes]:
    return [line.split()[1] for line in client.uidl()[1]]


def retrieve(client: poplib.POP3_SSL, number: int) -> bytes:
    """The message's octets, byte-stuffing undone."""
    return b"".join(line + b"\r\n" for line in client.retr(number)[1])


def test_sizes_told_are_octets_sent(daemon: Daemon) -> None:
    """RFC 1939 section 11; trace fields of SMTP count, and so does the CRLF that a message lacked."""
    for octets in (MAIL, DOTS, NO_FINAL_CRLF, LARGE):
        daemon.command("append", octets)
        daemon.command("deliver", octets)
    client = daemon.log_in()
    messages = [retrieve(client, number) for number in range(1, 9)]
    assert sorted(messages) == sorted(
        prefix + octets for octets in (MAIL, DOTS, NO_FINAL_CRLF + b"\r\n", LARGE) for prefix in (b"", PREFIX)
    )
    assert sizes_of(client) == [len(octets) for octets in messages]
    assert client.stat() == (8, sum(map(len, messages)))
    for number, octets in enumerate(messages, 1):
        told = client.retr(number)[0]
        assert told == b"+OK %d octets" % len(octets)
        assert client.list(number) == b"+OK %d %d" % (number, len(octets))
        header = octets[: octets.index(b"\r\n\r\n") + 4]
        body = octets[len(header) :].splitlines(keepends=True)
        assert b"\r\n".join([*client.top(number, 0)[1], b""]) == header
        assert b"\r\n".join([*client.top(number, 1)[1], b""]) == header + body[0]
    client.quit()


def test_unique_ids_outlive_the_server(daemon: Daemon) -> None:
    for octets in (MAIL, MAIL, DOTS):
        daemon.command("deliver", octets)
    client = daemon.log_in()
    before = unique_ids(client)
    assert len(set(before)) == 3
    daemon.restart()
    with pytest.raises((poplib.error_proto, OSError)):
        client.noop()
    client = daemon.log_in()
    assert unique_ids(client) == before
    client.dele(1)
    client.quit()
    daemon.restart()
    daemon.command("deliver", MAIL)
    after = unique_ids(daemon.log_in())
    assert after[:2] == before[1:]
    assert after[2] not in before


def test_two_sessions_each_with_its_own_list(daemon: Daemon) -> None:
    for octets in (MAIL, DOTS, NO_FINAL_CRLF):
        daemon.command("append", octets)
    first, second = daemon.log_in(), daemon.log_in()
    first.dele(1)
    assert first.stat()[0] == 2
    assert second.stat()[0] == 3
    assert retrieve(second, 1) == MAIL
    first.quit()
    # Numbers stay; what is gone is refused, what is there is sent (RFC 1939 section 8).
    with pytest.raises(poplib.error_proto, match="No such message any more"):
        second.retr(1)
    with pytest.raises(poplib.error_proto, match="No such message any more"):
        second.top(1, 0)
    assert retrieve(second, 2) == DOTS
    second.dele(1)
    second.dele(3)
    assert second.quit() == b"+OK Bye"
    assert daemon.command("uids") == "2"


@pytest.mark.parametrize("ending", ["reset", "hang up", "restart"])
def test_only_quit_removes(daemon: Daemon, ending: str) -> None:
    daemon.command("append", MAIL)
    daemon.command("append", DOTS)
    client = daemon.log_in()
    client.dele(1)
    client.dele(2)
    assert client.stat() == (0, 0)
    if ending == "reset":
        client.rset()
        client.quit()
    elif ending == "restart":
        daemon.restart()
    else:
        client.close()
    assert daemon.command("uids") == "1 2"
    client = daemon.log_in()
    client.dele(2)
    client.quit()
    assert daemon.command("uids") == "1"


def test_what_an_imap_client_marked_is_not_removed_by_quit(daemon: Daemon) -> None:
    daemon.command("append", MAIL)
    daemon.command("append", DOTS)
    daemon.command("flag")
    client = daemon.log_in()
    assert client.stat()[0] == 2
    client.dele(1)
    client.quit()
    assert daemon.command("uids") == "2"


def test_all_gone_while_reading(daemon: Daemon) -> None:
    daemon.command("deliver", LARGE)
    client = daemon.log_in()
    daemon.command("expunge")
    with pytest.raises(poplib.error_proto, match="No such message any more"):
        client.retr(1)
    assert client.stat() == (1, len(PREFIX + LARGE))
    assert client.noop().startswith(b"+OK")
    client.dele(1)
    assert client.quit() == b"+OK Bye"
    assert daemon.log_in().stat() == (0, 0)


def test_a_wrong_password_and_pipelining(daemon: Daemon) -> None:
    daemon.command("append", MAIL)
    client = poplib.POP3_SSL("localhost", daemon.port, context=daemon.context, timeout=30)
    assert "PIPELINING" in client.capa()
    client.user(ADDRESS)
    with pytest.raises(poplib.error_proto, match=r"\[AUTH\]"):
        client.pass_("wrong")
    client.user(ADDRESS)
    client.pass_(PASSWORD)
    client.sock.sendall(b"NOOP\r\nUIDL\r\nRETR 1\r\nQUIT\r\n")
    answers = client.file.read()
    assert answers.count(b"+OK") == 4
    assert answers.endswith(b"+OK %d octets\r\n%b.\r\n+OK Bye\r\n" % (len(MAIL), MAIL))
