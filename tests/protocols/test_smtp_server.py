"""The SMTP connection on a Twisted transport with a clock: timeouts, shutdown, back-pressure, log-in, log lines."""

from collections.abc import Awaitable
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from support import WorkingClock
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure

from certmaild.mailbox.changes import Change, ChangeHub, ChangeKind
from certmaild.protocols.interfaces import LogInForbidden, LogInRefused, LogInUnavailable, TooManySessions
from certmaild.protocols.limits import Limits
from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.interfaces import Hop, Listener
from certmaild.protocols.smtp.parameters import MailArguments, RcptArguments
from certmaild.protocols.smtp.server import HIGH_WATER, SmtpConnection, SmtpFactory
from certmaild.protocols.smtp.terrain import Terrain
from certmaild.protocols.turns import TURN_S

USER = b"u" * 16
AUTH = b"AUTH PLAIN AGFubgBzZWNyZXQ=\r\n"
MESSAGE = b"MAIL FROM:<b@p.example>\r\nRCPT TO:<ann@example.com>\r\nDATA\r\n"


class Taken:
    """A transaction that keeps what it gets."""

    def __init__(self, reception: "Taker") -> None:
        self.reception = reception
        self.content = b""
        self.recipients: list[str] = []
        self.is_aborted = False

    async def add_recipient(self, recipient: RcptArguments) -> None:
        path = recipient.forward_path
        if path.local == "unknown":
            raise Refusal(550, "5.1.1", "No such mailbox")
        if path.local == "crash":
            raise ZeroDivisionError
        self.recipients.append(str(path))

    def write(self, content: bytes) -> Awaitable[None] | None:
        if b"CRASH" in content:
            raise ZeroDivisionError
        if b"REFUSE" in content:
            raise Refusal(452, "4.3.1", "No room")
        self.content += content
        return self.reception.pause

    async def finish(self) -> str:
        if self.reception.commit is not None:
            await self.reception.commit
        if b"FAIL" in self.content:
            raise ZeroDivisionError
        self.reception.messages.append(self.content)
        return "q1"

    def abort(self) -> None:
        self.is_aborted = True


class Taker:
    """Reception of fixed rules."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.transactions: list[Taken] = []
        self.hops: list[Hop] = []
        self.pause: Deferred[None] | None = None
        self.commit: Deferred[None] | None = None
        self.looking: Deferred[None] | None = None

    async def begin(self, hop: Hop, mail: MailArguments) -> Taken:
        if mail.reverse_path.local == "refused":
            raise Refusal(452, "4.3.1", "No room")
        if self.looking is not None:
            await self.looking
        self.hops.append(hop)
        self.transactions.append(Taken(self))
        return self.transactions[-1]


class Gate:
    """Lets in who says ``secret``."""

    def __init__(self) -> None:
        self.is_open = True
        self.error: Exception | None = None
        self.waiting: Deferred[None] | None = None
        self.out = 0

    async def log_in(self, username: bytes, password: bytes, *, service: object, peer: str) -> Any:
        if self.waiting is not None:
            await self.waiting
        if self.error is not None:
            raise self.error
        if password != b"secret":
            raise LogInRefused
        return type("Login", (), {"user_id": USER, "address": username.decode()})()

    async def is_valid(self, login: object) -> bool:
        return self.is_open

    def log_out(self, login: object) -> None:
        self.out += 1


class Door:
    """Counts places."""

    def __init__(self) -> None:
        self.is_open = True
        self.left = self.authenticated_count = 0

    def admit(self, peer: str, port: int, give_way: object) -> "Door | None":
        return self if self.is_open else None

    def authenticated(self) -> None:
        self.authenticated_count += 1

    def leave(self) -> None:
        self.left += 1


class TlsTransport(StringTransport):
    """A transport that says it is inside TLS, and can start it."""

    started = aborted = False

    def abortConnection(self) -> None:
        self.aborted = True

    def getHandle(self) -> Any:
        facts = {"protocol_version": "TLSv1.3", "cipher": "AES", "group": "X25519MLKEM768"}
        given = {f"get_{name}_name": lambda _, fact=fact: fact for name, fact in facts.items()}
        return type("Handle", (), {"peer_chain": lambda _: (), **given})()

    def startTLS(self, factory: object) -> None:
        self.started = True


class Setting:
    """One connection with everything around it."""

    def __init__(
        self,
        listener: Listener = Listener.INBOUND,
        *,
        limits: Limits | None = None,
        is_door_open: bool = True,
        has_gatekeeper: bool = True,
        **terrain: Any,
    ) -> None:
        self.clock = WorkingClock()
        self.taker, self.gate, self.door, self.hub = Taker(), Gate(), Door(), ChangeHub()
        self.door.is_open = is_door_open
        self.factory = SmtpFactory(
            Terrain(listener, "mx.example.com", limits or Limits(), **terrain),
            reception=self.taker,
            clock=self.clock,
            doorkeeper=self.door,  # type: ignore[arg-type]
            gatekeeper=self.gate if has_gatekeeper else None,  # type: ignore[arg-type]
            tls=object(),  # type: ignore[arg-type]
            hub=self.hub,
            hash_address=lambda address: f"h({len(address)})",
        )
        self.connection: SmtpConnection = self.factory.buildProtocol(None)
        self.transport = TlsTransport(
            hostAddress=IPv4Address("TCP", "127.0.0.1", 25), peerAddress=IPv4Address("TCP", "192.0.2.7", 4000)
        )
        self.transport.protocol = self.connection
        self.connection.makeConnection(self.transport)  # type: ignore[arg-type]

    def send(self, data: bytes) -> bytes:
        self.connection.dataReceived(data)
        return self.said()

    def said(self) -> bytes:
        said = self.transport.value()
        self.transport.clear()
        return said

    def lose(self) -> None:
        self.connection.connectionLost(Failure(ConnectionDone()))


def inbound(**settings: Any) -> Setting:
    """Port 25 inside TLS, after EHLO."""
    setting = Setting(**settings)
    setting.send(b"EHLO c\r\nSTARTTLS\r\n")
    setting.connection.handshakeCompleted()
    setting.send(b"EHLO c\r\n")
    return setting


def submission(*, log_in: bool = True, **settings: Any) -> Setting:
    """Port 465, after EHLO and log-in."""
    setting = Setting(Listener.SUBMISSIONS, **settings)
    setting.connection.handshakeCompleted()
    setting.send(b"EHLO c\r\n")
    if log_in:
        assert setting.send(AUTH).startswith(b"235")
    return setting


def test_greeting_waits_for_the_handshake_of_implicit_tls() -> None:
    assert Setting().said() == b"220 mx.example.com ESMTP\r\n"
    setting = Setting(Listener.SUBMISSIONS)
    assert setting.said() == b""
    setting.connection.handshakeCompleted()
    assert setting.said() == b"220 mx.example.com ESMTP\r\n"


def test_a_message_is_taken_and_logged_in_one_line() -> None:
    setting = inbound()
    with capturedLogs() as events:
        assert setting.send(MESSAGE).endswith(b"354 End with <CRLF>.<CRLF>\r\n")
        assert setting.send(b"Subject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n") == (
            b"250 2.0.0 Message taken as q1\r\n221 2.0.0 Bye\r\n"
        )
        setting.clock.advance(0)
    (event,) = events
    assert (event["queue_id"], event["peer"], event["tls"], event["size"]) == ("q1", "192.0.2.7", "TLSv1.3", 20)
    assert (event["result"], event["sender"], event["recipients"]) == ("accepted", "h(11)", "h(15)")
    assert event["group"] == "X25519MLKEM768"
    assert setting.taker.messages == [b"Subject: x\r\n\r\nbody\r\n"]
    assert setting.transport.disconnecting
    hop = setting.taker.hops[0]
    assert (hop.helo, hop.esmtp, hop.login, hop.listener) == ("c", True, None, Listener.INBOUND)


def test_starttls_forgets_everything() -> None:
    setting = Setting()
    setting.said()
    assert setting.send(b"EHLO c\r\nSTARTTLS\r\n").endswith(b"220 2.0.0 Ready to start TLS\r\n")
    assert setting.transport.started
    setting.connection.handshakeCompleted()
    assert setting.said() == b""
    assert setting.send(b"MAIL FROM:<b@p.example>\r\n") == b"503 5.5.1 Send EHLO first\r\n"


def test_bytes_before_the_handshake_end_the_connection() -> None:
    setting = Setting()
    setting.send(b"STARTTLS\r\n")
    setting.connection.dataReceived(b"EHLO c\r\n")
    assert setting.transport.aborted


def test_clear_networks_may_send_without_tls() -> None:
    for network, code in ((ip_network("192.0.2.0/24"), b"250"), (ip_network("198.51.100.0/24"), b"530")):
        setting = Setting(clear_networks=(network,))
        said = setting.send(b"EHLO c\r\nMAIL FROM:<b@p.example>\r\nRCPT TO:<ann@example.com>\r\n")
        assert said.split(b"\r\n")[-2].startswith(code)


def test_refusals_and_crashes_are_answered() -> None:
    setting = inbound()
    assert setting.send(b"MAIL FROM:<refused@p.example>\r\n") == b"452 4.3.1 No room\r\n"
    with capturedLogs() as events:
        said = setting.send(
            b"MAIL FROM:<b@p.example>\r\nRCPT TO:<unknown@e.com>\r\nRCPT TO:<crash@e.com>\r\nRCPT TO:<ann@e.com>\r\n"
        )
    assert [line[:9] for line in said.split(b"\r\n")] == [b"250 2.1.0", b"550 5.1.1", b"451 4.3.0", b"250 2.1.5", b""]
    assert [event["log_level"] for event in events] == [LogLevel.critical]


@pytest.mark.parametrize(("word", "code"), [(b"CRASH", b"451"), (b"REFUSE", b"452"), (b"FAIL", b"451")])
def test_content_that_fails_is_answered_once(word: bytes, code: bytes) -> None:
    setting = inbound()
    setting.send(MESSAGE)
    assert setting.send(word) == b""
    said = setting.send(b"\r\nmore\r\n.\r\nNOOP\r\n")
    assert [line[:3] for line in said.split(b"\r\n")] == [code, b"250", b""]
    assert setting.taker.messages == []
    assert setting.taker.transactions[0].is_aborted


def test_refused_by_the_session_is_logged_too() -> None:
    setting = inbound()
    setting.send(MESSAGE)
    with capturedLogs() as events:
        assert setting.send(b"a\nb\r\n.\r\n").startswith(b"550 5.6.0")
        setting.clock.advance(0)
    assert [event["result"] for event in events] == ["550 5.6.0"]
    assert setting.taker.transactions[0].is_aborted


def test_disconnect_in_data_drops_the_message() -> None:
    setting = inbound()
    setting.send(MESSAGE + b"half")
    setting.lose()
    assert setting.taker.transactions[0].is_aborted
    assert setting.door.left == 1
    assert not setting.factory.connections
    assert not [call for call in setting.clock.getDelayedCalls() if call.active()]


def test_disconnect_at_the_commit_leaves_the_message_to_it() -> None:
    setting = inbound()
    setting.taker.commit = Deferred()
    setting.send(MESSAGE + b"whole\r\n.\r\n")
    setting.lose()
    setting.taker.commit.callback(None)
    assert setting.taker.messages == [b"whole\r\n"]
    assert not setting.taker.transactions[0].is_aborted


def test_reading_pauses_while_content_waits() -> None:
    setting = inbound()
    setting.send(MESSAGE)
    setting.taker.pause = pause = Deferred()
    setting.send(b"first\r\n")
    assert setting.transport.producerState == "producing"
    setting.send(b"x" * (HIGH_WATER + 1))
    assert setting.transport.producerState == "paused"
    assert setting.taker.transactions[0].content == b"first"
    setting.taker.pause = None
    pause.callback(None)
    assert setting.transport.producerState == "producing"
    assert setting.send(b"\r\n.\r\n").startswith(b"250")
    assert len(setting.taker.messages[0]) == HIGH_WATER + 1 + 9


def test_a_client_that_reads_nothing_is_read_no_more() -> None:
    setting = inbound()
    setting.connection.pauseProducing()
    assert setting.transport.producerState == "paused"
    setting.connection.resumeProducing()
    assert setting.transport.producerState == "producing"
    setting.connection.stopProducing()


def test_replies_of_a_group_leave_together() -> None:
    setting = inbound()
    writes: list[bytes] = []
    setting.transport.write = writes.append  # type: ignore[method-assign]
    setting.send(MESSAGE)
    assert len(writes) == 1
    assert writes[0].count(b"\r\n") == 3


def test_a_flood_of_commands_lets_others_go_first() -> None:
    setting = inbound()
    setting.clock.look_s = TURN_S / 4
    first = setting.send(b"NOOP\r\n" * 1000).count(b"250")
    assert 64 <= first < 500
    assert setting.send(b"NOOP\r\n") == b""
    for _ in range(20):
        setting.clock.advance(0)
    assert first + setting.said().count(b"250") == 1001
    setting.send(b"NOOP\r\n" * 1000)
    setting.lose()
    setting.clock.advance(0)


def test_a_flood_that_waits_for_its_turn_is_not_read_on() -> None:
    setting, other = inbound(), inbound()
    other.factory.turns = setting.factory.turns
    setting.clock.look_s = TURN_S / 4
    setting.send(b"NOOP\r\n" * 1000)
    assert other.send(b"NOOP\r\n" * (HIGH_WATER // 6 + 1)) == b""
    assert other.transport.producerState == "paused"
    for _ in range(400):
        setting.clock.advance(0)
    assert other.said().count(b"250") == HIGH_WATER // 6 + 1
    assert other.transport.producerState == "producing"


def test_a_command_that_comes_octet_by_octet_has_the_time_of_one() -> None:
    setting = inbound()
    for _ in range(299):
        setting.clock.advance(1)
        setting.send(b"N")
    assert not setting.transport.disconnecting
    setting.clock.advance(2)
    assert setting.said() == b"421 4.4.2 Timeout\r\n"


@pytest.mark.parametrize("listener", [Listener.SUBMISSION, Listener.SUBMISSIONS])
def test_log_in_has_a_minute_but_not_on_port_25(listener: Listener) -> None:
    setting, relaying = Setting(listener), inbound()
    setting.connection.handshakeCompleted()
    for each in (setting, relaying):
        for _ in range(59):
            each.clock.advance(1)
            each.send(b"NOOP\r\n")
        assert not each.transport.disconnecting
        each.clock.advance(1)
    assert setting.said().endswith(b"421 4.4.2 Timeout\r\n")
    assert setting.transport.disconnecting and not relaying.transport.disconnecting


@pytest.mark.parametrize(("sent", "patience"), [(b"", 300), (MESSAGE, 180)])
def test_silence_ends_the_session(sent: bytes, patience: int) -> None:
    setting = inbound()
    setting.send(sent)
    setting.clock.advance(patience - 1)
    assert setting.send(b"N\r\n")[:3] == (b"" if sent else b"500")
    for _ in range(patience - 1):
        setting.clock.advance(1)
    assert setting.said() == b""
    setting.clock.advance(2)
    assert setting.said() == b"421 4.4.2 Timeout\r\n"
    assert setting.transport.disconnecting
    setting.clock.advance(20)
    assert setting.transport.aborted


def test_a_slow_commit_is_no_silence() -> None:
    setting = inbound()
    setting.taker.commit = Deferred()
    setting.send(MESSAGE + b"whole\r\n.\r\n")
    for _ in range(1000):
        setting.clock.advance(1)
    setting.taker.commit.callback(None)
    assert setting.said().endswith(b"250 2.0.0 Message taken as q1\r\n")


def test_sixty_seconds_to_log_in() -> None:
    setting = submission(log_in=False)
    for _ in range(59):
        setting.clock.advance(1)
        setting.send(b"NOOP\r\n")
    setting.clock.advance(2)
    assert setting.said() == b"421 4.4.2 Timeout\r\n"
    setting = submission()
    for _ in range(70):
        setting.clock.advance(1)
        assert setting.send(b"NOOP\r\n").startswith(b"250")


def test_log_in_and_out() -> None:
    setting = submission()
    assert setting.door.authenticated_count == 1
    setting.lose()
    assert setting.gate.out == 1


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (LogInRefused(), b"535 5.7.8 Authentication failed\r\n"),
        (LogInUnavailable("Busy, try again", 5), b"454 4.7.0 Busy, try again\r\n"),
        (LogInForbidden("Use another program."), b"535 5.7.1 Use another program.\r\n"),
        (TooManySessions(), b"454 4.7.0 Too many sessions\r\n"),
        (ZeroDivisionError(), b"451 4.3.0 Internal error, please try again later\r\n"),
    ],
)
def test_log_in_refused(error: Exception, reply: bytes) -> None:
    setting = submission(log_in=False)
    setting.gate.error = error
    assert setting.send(AUTH) == reply


def test_lost_while_logging_in_logs_out() -> None:
    setting = submission(log_in=False)
    setting.gate.waiting = Deferred()
    setting.send(AUTH)
    setting.lose()
    assert setting.door.left == 0, "an address would be counted with none of the log-ins that it has under way"
    setting.gate.waiting.callback(None)
    assert setting.gate.out == 1
    assert setting.door.left == 1


def test_revocation_ends_the_session() -> None:
    setting = submission()
    setting.hub.deliver([Change(ChangeKind.FOLDER, USER), Change(ChangeKind.ACCOUNT, USER)])  # type: ignore[arg-type]
    assert setting.said() == b""
    setting.gate.is_open = False
    setting.hub.deliver([Change(ChangeKind.ACCOUNT, USER)])  # type: ignore[arg-type]
    assert setting.said() == b"421 4.7.0 Account changed, please authenticate again\r\n"
    assert setting.transport.disconnecting


@pytest.mark.parametrize("sent", [b"", MESSAGE])
def test_a_revoked_sender_sends_no_more(sent: bytes) -> None:
    setting = submission()
    setting.send(sent)
    setting.gate.is_open = False
    said = setting.send(MESSAGE if not sent else b"x\r\n.\r\n")
    assert b"421 4.7.0" in said
    assert setting.taker.messages == []
    assert setting.transport.disconnecting


def test_shutdown() -> None:
    setting = inbound()
    gone: list[None] = []
    setting.factory.connections.shut_down().addCallback(gone.append)
    assert setting.said() == b"421 4.3.2 Shutting down\r\n"
    assert setting.transport.disconnecting
    assert gone == []
    setting.lose()
    assert gone == [None]


def test_who_stays_after_shutdown_is_cut_off() -> None:
    setting = inbound()
    setting.factory.connections.shut_down()
    setting.factory.connections.cut_off()
    assert setting.transport.aborted


def test_shutdown_during_a_handshake() -> None:
    setting = Setting()
    setting.send(b"STARTTLS\r\n")
    setting.factory.connections.shut_down()
    assert setting.transport.disconnecting
    setting.connection.handshakeCompleted()
    assert setting.said() == b""


def test_shutdown_of_nobody_is_at_once() -> None:
    setting = inbound()
    setting.lose()
    gone: list[None] = []
    setting.factory.connections.shut_down().addCallback(gone.append)
    setting.connection.end(421, "4.3.2", "Shutting down")
    assert gone == [None]


def test_lost_while_a_sender_is_looked_up() -> None:
    setting = inbound()
    setting.taker.looking = looking = Deferred()
    setting.send(b"MAIL FROM:<b@p.example>\r\n")
    setting.lose()
    looking.callback(None)
    assert setting.taker.transactions[0].is_aborted


def test_a_fault_of_the_server_itself_ends_the_connection() -> None:
    setting = inbound()
    setting.send(MESSAGE)

    def fail(_: object) -> None:
        raise ZeroDivisionError

    setting.factory.journal.note = fail  # type: ignore[assignment]
    with capturedLogs() as events:
        setting.send(b"x\r\n.\r\n")
    assert setting.transport.aborted
    assert [event["log_level"] for event in events] == [LogLevel.critical]


def test_no_log_in_without_a_gatekeeper() -> None:
    setting = submission(log_in=False, has_gatekeeper=False)
    assert setting.send(AUTH) == b"454 4.7.0 Authentication not available\r\n"


def test_shutdown_drops_unfinished_data() -> None:
    setting = inbound()
    setting.send(MESSAGE + b"half")
    setting.factory.connections.shut_down()
    assert setting.said().endswith(b"421 4.3.2 Shutting down\r\n")
    assert setting.taker.transactions[0].is_aborted


def test_shutdown_lets_a_commit_finish() -> None:
    setting = inbound()
    setting.taker.commit = Deferred()
    setting.send(MESSAGE + b"whole\r\n.\r\nNOOP\r\n")
    setting.factory.connections.shut_down()
    setting.said()
    setting.taker.commit.callback(None)
    assert setting.said() == b"250 2.0.0 Message taken as q1\r\n421 4.3.2 Shutting down\r\n"


@pytest.mark.parametrize(
    ("listener", "said"),
    [(Listener.INBOUND, b"421 4.7.0 Too many connections\r\n"), (Listener.SUBMISSIONS, b"")],
)
def test_too_many_connections(listener: Listener, said: bytes) -> None:
    setting = Setting(listener, is_door_open=False)
    assert setting.transport.disconnecting
    assert setting.said() == said


def test_eviction() -> None:
    setting = inbound()
    setting.connection.evict()
    assert setting.said() == b"421 4.7.0 Too many connections\r\n"


def test_limits_come_from_the_terrain() -> None:
    setting = inbound(limits=replace(Limits(), message_size_port_25=1234))
    assert b"SIZE 1234\r\n" in setting.send(b"EHLO c\r\n")
