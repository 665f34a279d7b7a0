"""What members send to other servers leaves the real daemon signed by DKIM; dkimpy holds both signatures for right."""

import re
import smtplib
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import dkim
import pytest
from clients_support import make_mail
from daemon import Daemon

pytest.importorskip("nacl", reason="dkimpy checks Ed25519 with it")
DELIVERY_TIME_S = 60


class Sink(socketserver.ThreadingTCPServer):
    """Another server, which takes everything, in clear."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.messages: list[bytes] = []
        self.has_come = threading.Event()


class _Conversation(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Sink)
        self.wfile.write(b"220 sink.example ESMTP\r\n")
        for line in self.rfile:
            verb = line[:4].upper()
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = []
                while (content := self.rfile.readline()) != b".\r\n":
                    lines.append(content.removeprefix(b"."))
                self.server.messages.append(b"".join(lines))
                self.server.has_come.set()
            elif verb == b"EHLO":
                self.wfile.write(b"250-sink.example\r\n250 8BITMIME\r\n")
                continue
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            if verb == b"QUIT":
                return


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_outgoing_mail_is_signed(sink: Sink, tmp_path: Path) -> None:
    port = sink.server_address[1]
    table = f'[[partner]]\ndomain = "sink.example"\nroute = ["127.0.0.1:{port}"]\nlevel = "may"\n'
    with Daemon(tmp_path / "daemon", tables=table) as daemon:
        ann = daemon.add_user("ann")
        printed = daemon.command("dkim", "make")
        records = {
            name.encode(): "".join(re.findall(r'"([^"]*)"', text)).encode()
            for name, text in (line.split(" IN TXT ") for line in printed.splitlines() if " IN TXT " in line)
        }
        message = make_mail("signed", "Two  spaces \r\n\r\n.dot\r\n\r\n", to="x@sink.example")
        with smtplib.SMTP_SSL("localhost", daemon.ports["submissions"], context=daemon.tls_context()) as smtp:
            smtp.login(ann.address, ann.password)
            own = message.replace(b"bob@partner.example", ann.address.encode())
            smtp.sendmail(ann.address, ["x@sink.example"], own)
        assert sink.has_come.wait(DELIVERY_TIME_S), daemon.log.read_text()[-3000:]
    (arrived,) = sink.messages
    assert arrived.count(b"DKIM-Signature:") == 2, arrived
    for number in range(2):
        assert dkim.DKIM(arrived).verify(number, dnsfunc=lambda name, timeout=5: records[name])
