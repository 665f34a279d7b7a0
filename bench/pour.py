"""What handing messages over costs, the courier alone: `bench/pour.py [--mib N] [--messages N] [--octets N]`.

One message of N MiB (2,806, as 2 GiB are in base64) goes by BDAT and by DATA over TLS 1.3 to a process that throws it
away and tells the SHA-256 of what came. Then N messages (2,000) of N octets (10,000) go one after the other. CPU and
memory are this process's own: no store is read.
"""

import argparse
import base64
import hashlib
import random
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from figures import make_message, print_figure
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from certmaild.keystore.certificates import make_private
from certmaild.keystore.tls_client import TlsClients
from certmaild.keystore.tls_values import Demand, Level
from certmaild.outbound.courier import SmtpCourier
from certmaild.outbound.hand_over import HandOver
from certmaild.outbound.values import (
    Delivered,
    Destination,
    Envelope,
    OutgoingMessage,
    Plan,
    PlannedHost,
    Recipient,
    RouteKind,
)
from certmaild.protocols.smtp.grammar import Path as Address

MIB = 1 << 20
TOWARDS = Destination(RouteKind.PARTNER, "sink.example")
WAYS = {"bdat": b"250-PIPELINING\r\n250 CHUNKING\r\n", "data": b"250 PIPELINING\r\n"}


# The sink, a process of its own


def sink(certificate: str, key: str) -> None:
    """Take connections one after the other; the first line of input says what EHLO offers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    for offers in map(str.strip, sys.stdin):
        line, _ = listening.accept()
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(line, server_side=True) as tls:
            digest = Drain(tls, WAYS[offers]).run()
        print(digest, flush=True)


class Drain:
    """One connection of a server that keeps nothing."""

    def __init__(self, line: ssl.SSLSocket, offers: bytes) -> None:
        self.line = line
        self.offers = offers
        self.buffer = b""
        self.digest = hashlib.sha256()

    def run(self) -> str:
        """Talk until QUIT; the SHA-256 of all content that came."""
        self.line.sendall(b"220 sink\r\n")
        while True:
            while (at := self.buffer.find(b"\r\n")) < 0:
                self.more()
            command, self.buffer = self.buffer[:at], self.buffer[at + 2 :]
            verb = command[:4].upper()
            if verb == b"QUIT":
                self.line.sendall(b"221 Bye\r\n")
                return self.digest.hexdigest()
            if verb == b"EHLO":
                self.line.sendall(b"250-sink\r\n" + self.offers)
            elif verb == b"BDAT":
                self.chunk(int(command.split()[1]))
                self.line.sendall(b"250 Ok\r\n")
            elif verb == b"DATA":
                self.line.sendall(b"354 Go\r\n")
                self.data()
                self.line.sendall(b"250 Ok\r\n")
            else:
                self.line.sendall(b"250 Ok\r\n")

    def more(self) -> None:
        """Some more octets."""
        piece = self.line.recv(1 << 18)
        if not piece:
            raise ConnectionError
        self.buffer += piece

    def took(self, octets: bytes) -> None:
        """Content."""
        self.digest.update(octets)

    def chunk(self, octets: int) -> None:
        """Of BDAT."""
        while octets:
            if not self.buffer:
                self.more()
            taken, self.buffer = self.buffer[:octets], self.buffer[octets:]
            octets -= len(taken)
            self.took(taken)

    def data(self) -> None:
        """Of DATA; no line of the content begins with a dot."""
        while (at := self.buffer.find(b"\r\n.\r\n")) < 0:
            self.took(self.buffer[:-4])
            self.buffer = self.buffer[-4:]
            self.more()
        self.took(self.buffer[: at + 2])
        self.buffer = self.buffer[at + 5 :]


# The courier


class Sink:
    """The other process, and the way to it."""

    def __init__(self, folder: Path) -> None:
        files = make_private(folder, ["sink.example"])
        words = [sys.executable, __file__, "--sink", str(files.chain), str(files.key)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.answer())
        demand = Demand(Level.SECURE, "sink.example", policy="bench")
        host = PlannedHost("sink.example", ("127.0.0.1",), self.port, demand, implicit_tls=True)
        self.plan = Plan(TOWARDS, (host,))
        self.courier = SmtpCourier(reactor, "localhost", TlsClients(files.authority))

    def answer(self) -> str:
        """The next line that it says."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    async def connect(self, way: str) -> HandOver:
        """A connection on which content goes one way."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{way}\n")
        self.process.stdin.flush()
        connection = await self.courier.connect(self.plan)
        if not isinstance(connection, HandOver):
            raise RuntimeError(connection.words)
        return connection


class Large:
    """A message of so many octets or a little more, made while it is sent."""

    def __init__(self, octets: int) -> None:
        block = base64.encodebytes(random.Random(5).randbytes(57 * 4600)).replace(b"\n", b"\r\n")
        self.block = block
        self.count = octets // len(block) + 1
        self.size = self.count * len(block)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The octets."""
        for _ in range(self.count):
            yield self.block


def outgoing(size: int, content: object) -> OutgoingMessage:
    """For one recipient."""
    recipient = Recipient(Address("ann", "sink.example"), RouteKind.PARTNER, "")
    return OutgoingMessage(Envelope(Address("bob", "example.com")), (recipient,), size, content)  # type: ignore[arg-type]


async def send(connection: HandOver, message: OutgoingMessage) -> None:
    """Send, or raise."""
    (fate,) = (await connection.send(message, lambda: None)).values()
    if not isinstance(fate, Delivered):
        raise RuntimeError(fate.words)


def peak_mib() -> float:
    """Most memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def pour(folder: Path, mib: int, messages: int, octets: int) -> None:
    """All figures."""
    sink = Sink(folder)
    large = Large(mib * MIB)
    first = make_message(0, 1000)
    digest = hashlib.sha256(first)
    for _ in range(large.count):
        digest.update(large.block)
    for way in WAYS:
        connection = await sink.connect(way)
        await send(connection, outgoing(len(first), Small(first).pieces))
        before, begun, used = peak_mib(), time.perf_counter(), time.process_time()
        await send(connection, outgoing(large.size, large.pieces))
        wall_s, cpu_s, after = time.perf_counter() - begun, time.process_time() - used, peak_mib()
        await connection.close()
        if sink.answer().strip() != digest.hexdigest():
            raise RuntimeError("other octets came than were sent")
        print_figure(
            f"pour-{way}",
            gib=large.size / 1024 / MIB,
            wall_s=wall_s,
            mb_per_s=large.size / 1e6 / wall_s,
            cpu_s_per_gib=cpu_s / (large.size / 1024 / MIB),
            peak_rss_mib=after,
            peak_rss_growth_mib=after - before,
        )
    for way in WAYS:
        await many(sink, way, messages, octets)


class Small:
    """A message that is there."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    async def pieces(self) -> AsyncIterator[bytes]:
        """The octets."""
        yield self.content


async def many(sink: Sink, way: str, count: int, octets: int) -> None:
    """Messages one after the other; a new connection where the courier wants one."""
    contents = [Small(make_message(number, octets)) for number in range(100)]
    begun, used, sent, connections = time.perf_counter(), time.process_time(), 0, 0
    while sent < count:
        connection = await sink.connect(way)
        connections += 1
        while connection.is_open and sent < count:
            one = contents[sent % 100]
            await send(connection, outgoing(len(one.content), one.pieces))
            sent += 1
        await connection.close()
        sink.answer()
    wall_s, cpu_s = time.perf_counter() - begun, time.process_time() - used
    print_figure(
        f"messages-{way}",
        messages=count,
        octets=octets,
        connections=connections,
        per_s=count / wall_s,
        cpu_ms_each=cpu_s * 1000 / count,
    )


def main() -> None:
    """Parse, run, print."""
    if sys.argv[1:2] == ["--sink"]:
        sink(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=2806)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--octets", type=int, default=10_000)
    wanted = parser.parse_args()
    faults: list[Failure] = []

    def begin() -> None:
        work = Deferred.fromCoroutine(pour(Path(folder), wanted.mib, wanted.messages, wanted.octets))
        work.addErrback(faults.append).addBoth(lambda _: reactor.stop())  # type: ignore[attr-defined]

    with tempfile.TemporaryDirectory() as folder:
        reactor.callWhenRunning(begin)  # type: ignore[attr-defined]
        reactor.run()  # type: ignore[attr-defined]
    for fault in faults:
        fault.printTraceback()
        sys.exit(1)


if __name__ == "__main__":
    main()
