"""What keeping messages by IMAP costs: `bench/store.py [--messages N] [--octets N]`.

APPEND one by one, MULTIAPPEND by 100, COPY and MOVE of all to another folder, each over real TLS.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from clients import Imap, append, log_in
from daemon import Daemon
from figures import make_message, print_figure, wish
from server import Account, Server
from usage import Lap

Figures = Iterator[tuple[str, dict[str, float | int]]]

GROUP = 100


def store(server: Server, account: Account, count: int, octets: int) -> Figures:
    """Each way, into folders of its own; a fifth of the messages go in one by one."""
    imap = log_in(server, account)
    for folder in (b"Single", b"Many", b"Copies", b"Moved"):
        imap.command(b"CREATE " + folder)
    corpus = [make_message(number, octets) for number in range(count)]
    single = max(1, count // 5)
    with Lap(server) as lap:
        for one in corpus[:single]:
            append(imap, [one], b"Single")
    yield "append", lap.each(single)
    with Lap(server) as lap:
        for at in range(0, count, GROUP):
            append(imap, corpus[at : at + GROUP], b"Many")
    yield "multiappend", lap.each(count)
    imap.command(b"SELECT Many")
    for name, command in (("copy", b"COPY 1:* Copies"), ("move", b"MOVE 1:* Moved")):
        with Lap(server) as lap:
            imap.command(command)
        yield name, lap.each(count)
    for folder, expected in ((b"Single", single), (b"Copies", count), (b"Moved", count)):
        require_ids(imap, folder, expected)
    imap.close()


def require_ids(imap: Imap, folder: bytes, count: int) -> None:
    """The folder holds the first ``count`` messages of the corpus, once each, in order."""
    imap.command(b"SELECT " + folder)
    if imap.ids() != list(range(count)):
        raise RuntimeError(f"{folder.decode()} does not hold each of {count} messages once")


def main() -> None:
    """Run it once in a fresh folder."""
    count, octets = wish("messages", 2000), wish("octets", 10240)
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder)) as daemon:
        for name, values in store(daemon, daemon.add_users(["ann"])[0], count, octets):
            print_figure(name, **values)


if __name__ == "__main__":
    main()
