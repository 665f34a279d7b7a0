"""Small blocking clients for the benchmarks: real TLS sockets, no library in the way of the figures."""

import socket
import ssl
from collections.abc import Iterator

from figures import make_message


class Lines:
    """One TLS connection read by CRLF lines and counted octets."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self.sock = sock
        self.buffer = bytearray()

    def send(self, octets: bytes) -> None:
        """Write all of it."""
        self.sock.sendall(octets)

    def line(self) -> bytes:
        """The next line, with its CRLF."""
        while (end := self.buffer.find(b"\n")) < 0:
            self._more()
        line = bytes(self.buffer[: end + 1])
        del self.buffer[: end + 1]
        return line

    def until(self, mark: bytes) -> int:
        """Read to the end of ``mark`` and throw it all away; how many octets that was."""
        count = 0
        while (end := self.buffer.find(mark)) < 0:
            drop = max(0, len(self.buffer) - len(mark) + 1)
            count += drop
            del self.buffer[:drop]
            self._more()
        count += end + len(mark)
        del self.buffer[: end + len(mark)]
        return count

    def octets(self, count: int) -> Iterator[bytes]:
        """The next ``count`` octets, piece by piece as they come."""
        piece = bytes(self.buffer[:count])
        del self.buffer[:count]
        while True:
            if piece:
                yield piece
            count -= len(piece)
            if not count:
                return
            piece = self.sock.recv(min(count, 262144))
            if not piece:
                raise ConnectionError("the server closed the connection")

    def _more(self) -> None:
        piece = self.sock.recv(262144)
        if not piece:
            raise ConnectionError("the server closed the connection")
        self.buffer += piece

    def close(self) -> None:
        """Without ceremony."""
        self.sock.close()


def connect(port: int, context: ssl.SSLContext) -> Lines:
    """A TLS connection to a listener of the daemon."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=300)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Lines(context.wrap_socket(raw, server_hostname="localhost"))


class Smtp:
    """Delivers to port 25 over STARTTLS, MAIL, RCPT and DATA in one write (RFC 2920)."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        raw = socket.create_connection(("127.0.0.1", port), timeout=300)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.recv(4096)
        raw.sendall(b"EHLO bench.example\r\n")
        while b"\r\n250 " not in raw.recv(4096):
            pass
        raw.sendall(b"STARTTLS\r\n")
        if not raw.recv(4096).startswith(b"220"):
            raise ConnectionError("no STARTTLS")
        self.lines = Lines(context.wrap_socket(raw, server_hostname="localhost"))
        self.lines.send(b"EHLO bench.example\r\n")
        self.reply()

    def reply(self) -> bytes:
        """The last line of the next reply; raises on 4yz and 5yz."""
        while (line := self.lines.line())[3:4] == b"-":
            pass
        if line[:1] not in b"23":
            raise RuntimeError(line.decode("latin-1").strip())
        return line

    def begin(self, to: bytes) -> None:
        """MAIL, RCPT and DATA; content is awaited."""
        self.lines.send(b"MAIL FROM:<bob@sender.example>\r\nRCPT TO:<" + to + b">\r\nDATA\r\n")
        for _ in range(3):
            self.reply()

    def deliver(self, to: bytes, content: bytes) -> None:
        """One message; returns when its 250 is here. ``content`` is dot-stuffed and ends in CRLF."""
        self.begin(to)
        self.lines.send(content + b".\r\n")
        self.reply()


class Imap:
    """Sends one command at a time and counts what comes back."""

    def __init__(self, port: int, context: ssl.SSLContext, user: str, password: str) -> None:
        self.lines = connect(port, context)
        self.lines.line()
        self.command(f'LOGIN "{user}" "{password}"'.encode())

    def command(self, text: bytes) -> int:
        """Octets of the answer up to and with the tagged line; raises unless that is OK."""
        self.lines.send(b"Z9Z " + text + b"\r\n")
        count = self.lines.until(b"Z9Z ")
        line = self.lines.line()
        if not line.startswith(b"OK"):
            raise RuntimeError(line.decode("latin-1").strip())
        return count + len(line)

    def ask(self, text: bytes) -> list[bytes]:
        """The untagged lines of a short answer."""
        self.lines.send(b"Z9Z " + text + b"\r\n")
        answer = []
        while not (line := self.lines.line()).startswith(b"Z9Z "):
            answer.append(line)
        if not line.startswith(b"Z9Z OK"):
            raise RuntimeError(line.decode("latin-1").strip())
        return answer


def fill(imap: Imap, count: int, octets: int) -> None:
    """Append ``count`` messages of the corpus to INBOX, 100 a command."""
    distinct = [make_message(number, octets) for number in range(100)]
    piece = b"".join(b" {%d+}\r\n%s" % (len(one), one) for one in distinct)
    for _ in range(count // 100):
        imap.command(b"APPEND INBOX" + piece)
