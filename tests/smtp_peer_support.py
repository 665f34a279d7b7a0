"""SMTP servers of tests on loopback, in threads: they take mail, or misbehave as told; and a man in the middle."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import Any

OFFERS = ("PIPELINING", "SIZE 10000000", "8BITMIME", "ENHANCEDSTATUSCODES")
Answer = bytes | Callable[["Talk", bytes], bytes | None] | None


class Talk:
    """One connection."""

    def __init__(self, peer: "Peer", line: socket.socket) -> None:
        self.peer, self.line = peer, line
        self.in_tls = False
        self.buffer = b""
        self.taken = 0
        self.chunks = b""

    def read(self, octets: int) -> bytes:
        while len(self.buffer) < octets:
            piece = self.line.recv(65536)
            if not piece:
                raise ConnectionError
            self.buffer += piece
        out, self.buffer = self.buffer[:octets], self.buffer[octets:]
        return out

    def read_until(self, end: bytes) -> bytes:
        found = bytearray(self.buffer)
        start = 0
        while (at := found.find(end, start)) < 0:
            start = max(len(found) - len(end), 0)
            piece = self.line.recv(65536)
            if not piece:
                raise ConnectionError
            found += piece
        self.buffer = bytes(found[at + len(end) :])
        return bytes(found[:at])

    def say(self, text: bytes) -> None:
        self.line.sendall(text)

    def run(self) -> None:
        peer = self.peer
        if peer.is_tls_at_once:
            self.shake()
        self.say(peer.greeting)
        while True:
            command = self.read_until(b"\r\n")
            peer.commands.append(command)
            if self.in_tls:
                peer.commands_in_tls.append(command)
            verb = command.split(b" ")[0].decode("latin-1").upper()
            answer: Any = peer.answers.get(verb, getattr(self, f"on_{verb.lower()}", b"502 5.5.1 What?\r\n"))
            said = answer(self, command) if verb in peer.answers and callable(answer) else answer
            said = said(command) if callable(said) else said
            if said is None:
                return
            self.say(said)
            if verb == "QUIT" or said.startswith(b"421"):
                return

    def shake(self) -> None:
        assert self.peer.tls is not None
        self.line = self.peer.tls.wrap_socket(self.line, server_side=True)
        self.in_tls = True

    def on_ehlo(self, command: bytes) -> bytes:
        offers = [*self.peer.offers]
        if self.peer.offers_starttls and not self.in_tls:
            offers.append("STARTTLS")
        if self.in_tls:
            offers += self.peer.offers_in_tls
        lines = [b"peer.example", *(offer.encode() for offer in offers)]
        return b"".join(b"250-%s\r\n" % line for line in lines[:-1]) + b"250 %s\r\n" % lines[-1]

    on_lhlo = on_ehlo

    def on_helo(self, command: bytes) -> bytes:
        return b"250 peer.example\r\n"

    def on_starttls(self, command: bytes) -> bytes:
        self.say(b"220 2.0.0 Go\r\n")
        self.shake()
        return b""

    def on_auth(self, command: bytes) -> bytes:
        return b"235 2.7.0 Welcome\r\n"

    def on_mail(self, command: bytes) -> bytes:
        self.taken = 0
        self.chunks = b""
        return b"250 2.1.0 Ok\r\n"

    def on_rcpt(self, command: bytes) -> bytes:
        for word, answer in self.peer.recipients.items():
            if word in command:
                return answer
        self.taken += 1
        return b"250 2.1.5 Ok\r\n"

    def on_data(self, command: bytes) -> bytes:
        if not self.taken:
            return b"554 5.5.1 No valid recipients\r\n"
        self.say(b"354 Go\r\n")
        content = self.read_until(b"\r\n.\r\n") + b"\r\n"
        self.peer.took(content.replace(b"\r\n..", b"\r\n."))
        return self.peer.end * (self.taken if self.peer.is_lmtp else 1)

    def on_bdat(self, command: bytes) -> bytes:
        _, octets, *last = command.split()
        self.chunks += self.read(int(octets))
        if not last:
            return b"250 2.0.0 Chunk\r\n"
        self.peer.took(self.chunks)
        return self.peer.end

    def on_rset(self, command: bytes) -> bytes:
        return b"250 2.0.0 Ok\r\n"

    def on_quit(self, command: bytes) -> bytes:
        return b"221 2.0.0 Bye\r\n"


class Peer:
    """A server. ``answers`` by verb go before the usual ones; None closes, a callable gets talk and command."""

    def __init__(
        self,
        tls: ssl.SSLContext | None = None,
        *,
        answers: Mapping[str, Answer] | None = None,
        offers: tuple[str, ...] = OFFERS,
        offers_in_tls: tuple[str, ...] = (),
        offers_starttls: bool | None = None,
        is_tls_at_once: bool = False,
        is_lmtp: bool = False,
        greeting: bytes = b"220 peer.example ESMTP\r\n",
        recipients: Mapping[bytes, bytes] | None = None,
        end: bytes = b"250 2.0.0 Queued\r\n",
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.tls, self.answers, self.offers, self.offers_in_tls = tls, dict(answers or {}), offers, offers_in_tls
        self.offers_starttls = (tls is not None and not is_tls_at_once) if offers_starttls is None else offers_starttls
        self.is_tls_at_once, self.is_lmtp, self.greeting, self.end = is_tls_at_once, is_lmtp, greeting, end
        self.recipients = dict(recipients or {})
        self.commands: list[bytes] = []
        self.commands_in_tls: list[bytes] = []
        self.messages: list[bytes] = []
        self.faults: list[BaseException] = []
        self.callers: list[str] = []
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listening = socket.create_server((address, port), family=family)
        self.port: int = self._listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def took(self, content: bytes) -> None:
        self.messages.append(content)

    def _accept(self) -> None:
        while True:
            try:
                line, (caller, *_) = self._listening.accept()
            except OSError:
                return
            self.callers.append(caller)
            thread = threading.Thread(target=self._talk, args=(line,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _talk(self, line: socket.socket) -> None:
        line.settimeout(30)
        talk = Talk(self, line)
        try:
            talk.run()
        except (ConnectionError, ssl.SSLError, TimeoutError) as fault:
            self.faults.append(fault)
        finally:
            with contextlib.suppress(OSError):
                talk.line.close()

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(10)

    def verbs(self) -> list[str]:
        """What was said, in short."""
        return [command.split(b" ")[0].decode("ascii", "replace") for command in self.commands]


class Between:
    """A man in the middle of a server and its clients, who changes what the server says."""

    def __init__(self, port: int, change: Callable[[bytes], bytes], address: str = "127.0.0.1") -> None:
        self._to, self._change = (address, port), change
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.heard = b""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(self._to)
            for source, target, change in ((server, client, self._change), (client, server, self._hear)):
                threading.Thread(target=self._carry, args=(source, target, change), daemon=True).start()

    def _hear(self, octets: bytes) -> bytes:
        self.heard += octets
        return octets

    def _carry(self, source: socket.socket, target: socket.socket, change: Callable[[bytes], bytes]) -> None:
        with contextlib.suppress(OSError):
            while octets := source.recv(65536):
                target.sendall(change(octets))
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> "Between":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
