"""What reading costs: `bench/fetch.py [--messages N] [--octets N]`.

Every body of one folder by one FETCH; each is compared with what went in by SHA-256. `large.py` measures large ones.
"""

import hashlib
import re
import tempfile
from pathlib import Path

from clients import Imap, fill, log_in
from daemon import Daemon
from figures import make_message, print_figure, wish
from server import Server
from usage import Lap

_LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")


def read_bodies(imap: Imap) -> list[bytes]:
    """The SHA-256 of each message of the selected folder, in order."""
    digests = []
    imap.lines.send(b"Z9Z FETCH 1:* BODY.PEEK[]\r\n")
    while not (line := imap.lines.line()).startswith(b"Z9Z "):
        found = _LITERAL.search(line)
        if found is not None:
            digest = hashlib.sha256()
            for piece in imap.lines.octets(int(found[1])):
                digest.update(piece)
            digests.append(digest.digest())
    if not line.startswith(b"Z9Z OK"):
        raise RuntimeError(line.decode("latin-1").strip())
    return digests


def bodies(server: Server, imap: Imap, count: int, octets: int) -> dict[str, float | int]:
    """Whole messages of the selected folder, filled with the first ``count`` of the corpus."""
    with Lap(server) as lap:
        found = read_bodies(imap)
    size, expected = 0, []
    for number in range(count):
        content = make_message(number, octets)
        size += len(content)
        expected.append(hashlib.sha256(content).digest())
    if found != expected:
        raise RuntimeError("what came out is not what went in")
    return lap.each(count, size)


def main() -> None:
    """Run it once in a fresh folder."""
    count, octets = wish("messages", 2000), wish("octets", 10240)
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder)) as daemon:
        imap = log_in(daemon, daemon.add_users(["ann"])[0])
        fill(imap, count, octets)
        imap.command(b"SELECT INBOX")
        print_figure("bodies", **bodies(daemon, imap, count, octets))
        print_figure("size", peak_rss_kib=daemon.peak_kib(), anonymous_kib=daemon.anonymous_kib())


if __name__ == "__main__":
    main()
