"""What one large message costs, and how others fare meanwhile: `bench/large.py [--mib N] [--alone]`.

N MiB (256) of random octets, in base64 a third more, go in by BDAT, DATA and APPEND and come out whole, in pieces of
1 MiB of `BODY[]` and of `BODY[2]`, decoded by BINARY, and by POP3 RETR; each way out is compared by SHA-256. Beside it
another client reads, and mail is delivered, unless ``--alone``: what they cost is in the server's CPU. Last the
messages are removed by DELE and QUIT, EXPUNGE and DELETE.
"""

import base64
import hashlib
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bystanders import Bystanders
from clients import Imap, Lines, Smtp, pop3
from daemon import Daemon
from figures import print_figure, wish
from server import Account, Server

MIB = 1 << 20
LIMITS = """[limits]
message_size = "4GiB"
message_size_port_25 = "4GiB"
unfinished_per_address = "4GiB"
"""
HEADER = (
    b"From: Bob <bob@sender.example>\r\nTo: ann@example.com\r\nSubject: large\r\nMessage-ID: <large@sender.example>\r\n"
    b'Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="=_l"\r\n'
    b"\r\n--=_l\r\nContent-Type: text/plain\r\n\r\nThe images.\r\n--=_l\r\nContent-Type: application/octet-stream\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\n"
)
TRAILER = b"\r\n--=_l--\r\n"
BLOCK_OCTETS = 57 * 4600
"""Of clear octets: whole base64 lines, some 256 KiB."""


class LargeMessage:
    """A message with one part of so many octets, made while it is sent; its digests are known at the end."""

    def __init__(self, octets: int) -> None:
        dice = random.Random(3)
        blocks = [dice.randbytes(BLOCK_OCTETS) for _ in range(64)]
        encoded = [base64.encodebytes(block).replace(b"\n", b"\r\n") for block in blocks]
        order = [dice.randrange(64) for _ in range(max(1, octets // BLOCK_OCTETS))]
        self._pieces = [encoded[number] for number in order]
        self._pieces[-1] = self._pieces[-1][:-2]
        self.part_octets = sum(map(len, self._pieces))
        self.size = len(HEADER) + self.part_octets + len(TRAILER)
        whole, part, clear = hashlib.sha256(HEADER), hashlib.sha256(), hashlib.sha256()
        for number, piece in zip(order, self._pieces, strict=True):
            part.update(piece)
            clear.update(blocks[number])
            whole.update(piece)
        whole.update(TRAILER)
        self.clear_octets = BLOCK_OCTETS * len(order)
        self.digest, self.part_digest, self.clear_digest = whole.hexdigest(), part.hexdigest(), clear.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        yield HEADER
        yield from self._pieces
        yield TRAILER


@dataclass(slots=True)
class Trial:
    """One server, one large message, one mailbox."""

    daemon: Server
    account: Account
    message: LargeMessage
    others: Bystanders | None

    def measure(self, name: str, octets: int, work: Callable[[], None]) -> dict[str, float | int]:
        """Print what moving so many octets cost, and how the others fared meanwhile."""
        if self.others is not None:
            self.others.lap()
        cpu, own, begun = self.daemon.cpu_s(), time.process_time(), time.perf_counter()
        work()
        wall, cpu, own = time.perf_counter() - begun, self.daemon.cpu_s() - cpu, time.process_time() - own
        lap = {} if self.others is None else self.others.lap()
        rate: dict[str, float] = {}
        if octets:
            rate = {"mb_per_s": octets / wall / 1e6, "server_cpu_s_per_gb": cpu / octets * 1e9}
        print_figure(name, octets=octets, wall_s=wall, server_cpu_s=cpu, **rate, generator_cpu_s=own, **lap)
        return lap

    def imap(self) -> Imap:
        imap = Imap(self.daemon.ports["imaps"], self.daemon.tls_context(), self.account.address, self.account.password)
        imap.command(b"SELECT INBOX")
        return imap

    # In

    def smtp(self) -> Smtp:
        return Smtp(self.daemon.ports["smtp"], self.daemon.tls_context())

    def send_data(self) -> None:
        """By DATA."""
        smtp = self.smtp()
        smtp.begin(self.account.address.encode())
        for piece in self.message:
            smtp.lines.send(piece)
        smtp.lines.send(b".\r\n")
        smtp.reply()
        smtp.lines.close()

    def send_bdat(self) -> None:
        """By BDAT, pipelined: at most eight chunks unanswered."""
        smtp = self.smtp()
        smtp.lines.send(b"MAIL FROM:<bob@sender.example>\r\nRCPT TO:<%s>\r\n" % self.account.address.encode())
        unanswered = 2
        for piece in self.message:
            smtp.lines.send(b"BDAT %d\r\n" % len(piece))
            smtp.lines.send(piece)
            unanswered += 1
            while unanswered > 8:
                smtp.reply()
                unanswered -= 1
        smtp.lines.send(b"BDAT 0 LAST\r\n")
        for _ in range(unanswered + 1):
            smtp.reply()
        smtp.lines.close()

    def append(self) -> None:
        """By IMAP."""
        imap = self.imap()
        imap.lines.send(b"Z9Z APPEND INBOX {%d+}\r\n" % self.message.size)
        for piece in self.message:
            imap.lines.send(piece)
        imap.lines.send(b"\r\n")
        while not (line := imap.lines.line()).startswith(b"Z9Z"):
            pass
        assert line.startswith(b"Z9Z OK"), line

    # Out

    def fetch_whole(self, imap: Imap) -> None:
        """`BODY.PEEK[]`."""
        self._check(self._literal(imap, b"FETCH 1 BODY.PEEK[]"), self.message.size, self.message.digest)

    def fetch_pieces(self, imap: Imap) -> None:
        """`BODY.PEEK[]<o.1048576>`, one after the other."""
        self._check(self._pieces(imap, b"BODY.PEEK[]"), self.message.size, self.message.digest)

    def delivered_size(self, imap: Imap) -> int:
        """RFC822.SIZE of the message, its trace fields included."""
        answer = b"".join(imap.ask(b"FETCH 1 RFC822.SIZE"))
        return int(answer.rsplit(b"RFC822.SIZE ", 1)[1].split(b")")[0])

    def fetch_sample(self, imap: Imap, starts: range) -> list[str]:
        """The SHA-256 of the pieces of 1 MiB that begin at ``starts``."""
        found = []
        for at in starts:
            digest = hashlib.sha256()
            for piece in self._literal(imap, b"FETCH 1 BODY.PEEK[]<%d.%d>" % (at, MIB)):
                digest.update(piece)
            found.append(digest.hexdigest())
        return found

    def require_sample(self, starts: range, size: int, found: list[str]) -> None:
        """What `fetch_sample` found is what was sent; ``starts`` lie two pieces apart at least."""
        expected = [hashlib.sha256() for _ in starts]
        position = size - self.message.size  # trace fields come first
        for piece in self.message:
            for number in {(at - starts.start) // starts.step for at in (position, position + len(piece) - 1)}:
                if 0 <= number < len(starts):
                    begin = max(0, starts[number] - position)
                    expected[number].update(piece[begin : max(0, starts[number] + MIB - position)])
            position += len(piece)
        if found != [digest.hexdigest() for digest in expected]:
            raise SystemExit("a piece that came out is not what went in")

    def fetch_part_pieces(self, imap: Imap) -> None:
        """`BODY.PEEK[2]<o.1048576>`."""
        message = self.message
        self._check(self._pieces(imap, b"BODY.PEEK[2]"), message.part_octets, message.part_digest)

    def fetch_binary(self, imap: Imap) -> None:
        """`BINARY.PEEK[2]`: the server undoes base64."""
        message = self.message
        self._check(self._literal(imap, b"FETCH 1 BINARY.PEEK[2]"), message.clear_octets, message.clear_digest)

    def fetch_binary_pieces(self, imap: Imap) -> None:
        """`BINARY.PEEK[2]<o.1048576>`."""
        message = self.message
        self._check(self._pieces(imap, b"BINARY.PEEK[2]"), message.clear_octets, message.clear_digest)

    def retrieve(self) -> None:
        """POP3 RETR; nothing in the message begins with a dot."""
        lines = self.pop3()
        lines.send(b"RETR 1\r\n")
        size = int(lines.line().split()[1])
        self._check(lines.octets(size), self.message.size, self.message.digest, size)
        assert lines.line() == b".\r\n"
        lines.close()

    def pop3(self) -> Lines:
        """Logged in."""
        return pop3(self.daemon, self.account)

    def _pieces(self, imap: Imap, item: bytes) -> Iterator[bytes]:
        at = 0
        while True:
            got = 0
            for piece in self._literal(imap, b"FETCH 1 %s<%d.%d>" % (item, at, MIB)):
                got += len(piece)
                yield piece
            at += got
            if got < MIB:
                return

    @staticmethod
    def _literal(imap: Imap, command: bytes) -> Iterator[bytes]:
        imap.lines.send(b"Z9Z " + command + b"\r\n")
        # Flags that another session has changed come first.
        while (line := imap.lines.line()).startswith(b"* ") and b"BODY[" not in line and b"BINARY[" not in line:
            pass
        found = re.search(rb"\{(\d+)\}\r\n", line)
        if found is not None:
            yield from imap.lines.octets(int(found[1]))
            imap.lines.line()
        elif not line.endswith(b'""))\r\n') and b'""' not in line:
            raise RuntimeError(line.decode("latin-1"))
        while not (line := imap.lines.line()).startswith(b"Z9Z "):
            pass
        if not line.startswith(b"Z9Z OK"):
            raise RuntimeError(line.decode("latin-1"))

    @staticmethod
    def _check(pieces: Iterator[bytes], size: int, digest: str, announced: int | None = None) -> None:
        """What comes is, but for the trace fields in front, the message."""
        head, skip, seen = b"", -1, hashlib.sha256()
        total = 0
        for piece in pieces:
            total += len(piece)
            if skip < 0:
                head += piece
                mark = head.find(HEADER[:30])
                # A part begins at once; a delivered message behind its trace fields.
                skip = max(mark, 0)
                piece = head[skip:]
            seen.update(piece)
        if total - skip != size or seen.hexdigest() != digest:
            raise SystemExit(f"{total - skip} octets came out, not the {size} that went in")


def run(daemon: Daemon, octets: int, *, alone: bool = False) -> list[dict[str, float | int]]:
    """Every way in, every way out, every way to remove it; how the others fared in each."""
    account, message = daemon.add_user("ann", quota="64GiB"), LargeMessage(octets)
    others = None if alone else Bystanders(daemon, daemon.add_user("other"))
    trial = Trial(daemon, account, message, others)
    laps = []
    try:
        time.sleep(1)
        laps.append(trial.measure("idle", 0, lambda: time.sleep(2)))
        for name, way in (("in-bdat", trial.send_bdat), ("in-data", trial.send_data), ("in-append", trial.append)):
            laps.append(trial.measure(name, message.size, way))
        imap = trial.imap()
        for name, out, size in (
            ("out-whole", trial.fetch_whole, message.size),
            ("out-pieces", trial.fetch_pieces, message.size),
            ("out-part-pieces", trial.fetch_part_pieces, message.part_octets),
            ("out-binary", trial.fetch_binary, message.clear_octets),
        ):
            laps.append(trial.measure(name, size, lambda out=out: out(imap)))
        imap.command(b"LOGOUT")
        laps.append(trial.measure("out-pop3", message.size, trial.retrieve))
        laps += remove(trial)
        print_figure("size", peak_rss_kib=daemon.peak_kib(), anonymous_kib=daemon.anonymous_kib())
    finally:
        if others is not None:
            others.stop()
    return laps


def remove(trial: Trial) -> list[dict[str, float | int]]:
    """Take the three messages away in three ways."""

    def by_pop3() -> None:
        lines = trial.pop3()
        lines.send(b"DELE 1\r\nQUIT\r\n")
        assert [lines.line() for _ in range(2)][1].startswith(b"+OK")
        lines.close()
        time.sleep(1)

    def by_expunge() -> None:
        imap.command(b"STORE 1 +FLAGS.SILENT (\\Deleted)")
        imap.command(b"EXPUNGE")
        time.sleep(1)

    def by_folder() -> None:
        imap.command(b"DELETE Large")
        time.sleep(1)

    laps = [trial.measure("remove-dele-quit", 0, by_pop3)]
    imap = trial.imap()
    imap.command(b"CREATE Large")
    imap.command(b"MOVE 2 Large")
    laps.append(trial.measure("remove-expunge", 0, by_expunge))
    laps.append(trial.measure("remove-folder", 0, by_folder))
    return laps


def main() -> None:
    """Run it once in a fresh folder."""
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder), tables=LIMITS) as daemon:
        run(daemon, wish("mib", 256) * MIB, alone="--alone" in sys.argv)


if __name__ == "__main__":
    main()
