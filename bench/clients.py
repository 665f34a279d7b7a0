"""Small blocking clients for the benchmarks: real TLS sockets, no library in the way of the figures."""

import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from figures import make_message
from server import Account, Server

THUNDERBIRD = (
    b"(UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID Priority X-Priority "
    b"References Newsgroups In-Reply-To Content-Type Reply-To)])"
)
"""What Thunderbird asks of messages that are new to it."""
AHEAD = 4
"""Messages sent by BDAT on one connection before the reply to the first is awaited."""


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

    def up_to(self, mark: bytes) -> bytes:
        """Everything before ``mark``, which is thrown away."""
        begin = 0
        while (end := self.buffer.find(mark, begin)) < 0:
            begin = max(0, len(self.buffer) - len(mark) + 1)
            self._more()
        found = bytes(self.buffer[:end])
        del self.buffer[: end + len(mark)]
        return found

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
    """Delivers to port 25 over STARTTLS, with PIPELINING (RFC 2920) and, if asked, CHUNKING (RFC 3030)."""

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
        offered = []
        while (line := self.lines.line())[3:4] == b"-":
            offered.append(line[4:].strip().upper())
        if b"PIPELINING" not in (*offered, line[4:].strip().upper()):
            raise RuntimeError("the server offers no PIPELINING")

    def reply(self) -> bytes:
        """The last line of the next reply; raises on 4yz and 5yz."""
        while (line := self.lines.line())[3:4] == b"-":
            pass
        if line[:1] not in b"23":
            raise RuntimeError(line.decode("latin-1").strip())
        return line

    def begin(self, to: bytes) -> None:
        """MAIL, RCPT and DATA; content is awaited."""
        self.lines.send(_transaction(to) + b"DATA\r\n")
        for _ in range(3):
            self.reply()

    def deliver(self, to: bytes, content: bytes) -> None:
        """One message; returns when its 250 is here. ``content`` is dot-stuffed and ends in CRLF."""
        for _ in self.deliver_all(to, [content]):
            pass

    def deliver_all(self, to: bytes, contents: Sequence[bytes]) -> Iterator[float]:
        """Each message by DATA, the next one's MAIL, RCPT and DATA behind the end of content; seconds to each 250."""
        if contents:
            self.begin(to)
        for number, content in enumerate(contents, 1):
            more = number < len(contents)
            begun = time.perf_counter()
            self.lines.send(content + b".\r\n" + (_transaction(to) + b"DATA\r\n" if more else b""))
            self.reply()
            yield time.perf_counter() - begun
            for _ in range(3 if more else 0):
                self.reply()

    def deliver_chunks(self, to: bytes, contents: Sequence[bytes]) -> Iterator[float]:
        """Each message in one BDAT, at most `AHEAD` of them unanswered; seconds to each 250."""
        begun: deque[float] = deque()

        def answer() -> float:
            for _ in range(3):
                self.reply()
            return time.perf_counter() - begun.popleft()

        for content in contents:
            begun.append(time.perf_counter())
            self.lines.send(_transaction(to) + b"BDAT %d LAST\r\n" % len(content) + content)
            if len(begun) > AHEAD:
                yield answer()
        while begun:
            yield answer()

    def quit(self) -> None:
        """QUIT, its 221, and the close."""
        self.lines.send(b"QUIT\r\n")
        self.reply()
        self.lines.close()


def _transaction(to: bytes) -> bytes:
    return b"MAIL FROM:<bob@sender.example>\r\nRCPT TO:<" + to + b">\r\n"


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

    def answer(self, text: bytes) -> bytes:
        """All that comes before the tagged line; raises unless that is OK."""
        self.lines.send(b"Z9Z " + text + b"\r\n")
        answer = self.lines.up_to(b"Z9Z ")
        line = self.lines.line()
        if not line.startswith(b"OK"):
            raise RuntimeError(line.decode("latin-1").strip())
        return answer

    def ids(self) -> list[int]:
        """The corpus numbers of all messages of the selected folder, by their Message-ID; in order."""
        lines = self.ask(b"FETCH 1:* BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]")
        return [int(line.split(b".")[1].split(b"@")[0]) for line in lines if line.lower().startswith(b"message-id:")]

    def close(self) -> None:
        """LOGOUT, and the close."""
        self.command(b"LOGOUT")
        self.lines.close()


def log_in(server: Server, account: Account) -> Imap:
    """A new IMAP connection, logged in."""
    return Imap(server.ports["imaps"], server.tls_context(), account.address, account.password)


def pop3(server: Server, account: Account) -> Lines:
    """A new POP3 connection, logged in."""
    lines = connect(server.ports["pop3s"], server.tls_context())
    lines.line()
    lines.send(f"USER {account.address}\r\nPASS {account.password}\r\n".encode())
    if not [lines.line() for _ in range(2)][1].startswith(b"+OK"):
        raise RuntimeError("no log-in by POP3")
    return lines


def in_parallel(works: Sequence[Callable[[], object]]) -> None:
    """Run each in a thread of its own; raises what the first to fail raised."""
    with ThreadPoolExecutor(max(1, len(works))) as pool:
        for done in [pool.submit(work) for work in works]:
            done.result()


def fill(imap: Imap, count: int, octets: int, *, folder: bytes = b"INBOX", first: int = 0) -> None:
    """Append messages ``first`` to ``first + count`` of the corpus, 100 a command."""
    for begin in range(first, first + count, 100):
        some = [make_message(number, octets) for number in range(begin, min(begin + 100, first + count))]
        append(imap, some, folder)


def append(imap: Imap, messages: Sequence[bytes], folder: bytes = b"INBOX") -> None:
    """All of them in one command (RFC 3502), without waiting (RFC 7888)."""
    imap.command(b"APPEND " + folder + b"".join(b" {%d+}\r\n%s" % (len(one), one) for one in messages))
