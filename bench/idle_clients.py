"""Many idle IMAPS clients in a process of their own: `bench/idle.py` starts it and reads what it prints.

Standard input is one JSON line: port, CA file, accounts as pairs of address and password, how many clients, whether to
compress. Each client logs in, selects INBOX and says IDLE, then waits. Standard output is JSON lines: ``ready`` when
all wait, then ``exists`` with the client's number, the count it was told and the monotonic time. It ends when standard
input does. Clients come from many addresses of 127.0.0.0/8, so that neither ports nor the limit of an address run out.
"""

import json
import select
import socket
import ssl
import sys
import threading
import time
import zlib
from dataclasses import dataclass, field
from itertools import count

ADDRESSES = 200
THREADS = 4


@dataclass(slots=True)
class IdleClient:
    """One connection; `receive` gives complete lines."""

    tls: ssl.SSLSocket
    inflate: "zlib._Decompress | None" = None
    deflate: "zlib._Compress | None" = None
    rest: bytes = field(default=b"")

    def send(self, octets: bytes) -> None:
        if self.deflate is not None:
            octets = self.deflate.compress(octets) + self.deflate.flush(zlib.Z_SYNC_FLUSH)
        self.tls.sendall(octets)

    def receive(self) -> list[bytes]:
        """What can be read now, as lines. Raises `ConnectionError` at the end."""
        octets = self.tls.recv(65536)
        if not octets:
            raise ConnectionError("the server closed the connection")
        if self.inflate is not None:
            octets = self.inflate.decompress(octets)
        *lines, self.rest = (self.rest + octets).split(b"\r\n")
        return lines

    def ask(self, text: bytes, until: bytes) -> None:
        """Send a command and read to a line that begins so."""
        self.send(text + b"\r\n")
        while not any(line.startswith(until) for line in self.receive()):
            pass


def connect(number: int, port: int, context: ssl.SSLContext, account: list[str], *, compress: bool) -> IdleClient:
    """Client ``number``, in IDLE."""
    raw = socket.socket()
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.bind((f"127.0.1.{number % ADDRESSES + 1}", 0))
    raw.settimeout(60)
    raw.connect(("127.0.0.1", port))
    client = IdleClient(context.wrap_socket(raw, server_hostname="localhost"))
    client.ask(f'a LOGIN "{account[0]}" "{account[1]}"'.encode(), b"a OK")
    if compress:
        client.ask(b"b COMPRESS DEFLATE", b"b OK")
        client.inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        client.deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    client.ask(b"c SELECT INBOX", b"c OK")
    client.ask(b"d IDLE", b"+ ")
    return client


def connect_all(wish: dict[str, object]) -> list[IdleClient]:
    """All clients, several at once; client n has account n modulo their number."""
    context = ssl.create_default_context(cafile=str(wish["ca_file"]))
    accounts, total = wish["accounts"], int(str(wish["clients"]))
    assert isinstance(accounts, list)
    clients: dict[int, IdleClient] = {}
    numbers = count()
    faults: list[BaseException] = []

    def work() -> None:
        try:
            while not faults and (number := next(numbers)) < total:
                clients[number] = connect(
                    number,
                    int(str(wish["port"])),
                    context,
                    accounts[number % len(accounts)],
                    compress=bool(wish["compress"]),
                )
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return [clients[number] for number in range(total)]


def say(**values: object) -> None:
    """One JSON line."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Connect, then report every EXISTS until standard input ends."""
    wish = json.loads(sys.stdin.readline())
    begun = time.monotonic()
    clients = connect_all(wish)
    poll = select.epoll()
    by_descriptor = {}
    for number, client in enumerate(clients):
        client.tls.setblocking(False)
        poll.register(client.tls.fileno(), select.EPOLLIN)
        by_descriptor[client.tls.fileno()] = (number, client)
    poll.register(sys.stdin.fileno(), select.EPOLLIN)
    say(ready=len(clients), wall_s=time.monotonic() - begun)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == sys.stdin.fileno():
                return
            number, client = by_descriptor[descriptor]
            try:
                while True:
                    for line in client.receive():
                        if line.endswith(b" EXISTS"):
                            say(exists=number, count=int(line.split()[1]), at=time.monotonic())
            except ssl.SSLWantReadError:
                continue


if __name__ == "__main__":
    main()
