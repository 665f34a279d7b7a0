"""Run as a program: the POP3 server over real TLS on a free port, with the mailbox of `pop3_support` in memory.

Prints the port and the file of the authority, then serves until standard input ends. Commands on it, each answered by a
line when it is done: ``deliver HEX`` as SMTP does, with trace fields; ``append HEX`` as IMAP does; ``flag`` marks all
messages as an IMAP client does that has yet to expunge; ``expunge`` removes all; ``uids``; ``restart`` cuts every
session, forgets all that is cached, listens anew and tells the port.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from mailbox_support import ALL
from pop3_support import PopHouse
from support import run
from twisted.internet import reactor, stdio
from twisted.internet.task import Clock
from twisted.protocols.basic import LineReceiver
from twisted.protocols.tls import TLSMemoryBIOFactory

from certmaild.keystore.certificates import make_private
from certmaild.keystore.tls import Application, CertificateFiles, TlsEdge
from certmaild.mailbox.values import FlagOp, Flags, SystemFlag
from certmaild.protocols.turns import Turns


class Commands(LineReceiver):
    """Standard input."""

    delimiter = b"\n"
    MAX_LENGTH = 1 << 24

    def __init__(self, house: PopHouse, tls: Any) -> None:
        self.house = house
        self.tls = tls
        self.port: Any = None

    def listen(self) -> int:
        self.port = reactor.listenTCP(0, self.tls, interface="127.0.0.1")
        return self.port.getHost().port

    def lineReceived(self, line: bytes) -> None:
        word, _, rest = line.decode().partition(" ")
        answer = getattr(self, f"do_{word}")(bytes.fromhex(rest))
        print(answer or "done", flush=True)

    def do_deliver(self, octets: bytes) -> None:
        self.house.store.deliver(octets)

    def do_append(self, octets: bytes) -> None:
        self.house.store.append(octets)

    def do_flag(self, _: bytes) -> None:
        store = self.house.store
        run(store.mailbox.store_flags(store.box(), ALL, FlagOp.ADD, Flags(SystemFlag.DELETED)))

    def do_expunge(self, _: bytes) -> None:
        self.house.expunge_all()

    def do_uids(self, _: bytes) -> str:
        return " ".join(map(str, self.house.uids()))

    def do_restart(self, _: bytes) -> str:
        self.port.stopListening()
        self.house.factory.connections.cut_off()
        self.house.store.reopen()
        return str(self.listen())

    def connectionLost(self, reason: object = None) -> None:
        reactor.stop()


def main() -> None:
    directory = Path(tempfile.mkdtemp(dir=sys.argv[1]))
    house = PopHouse(directory)
    clock: Clock = reactor  # type: ignore[assignment]
    house.factory.turns = Turns(clock)
    house.factory.clock = clock
    files = make_private(directory / "tls", ["localhost"])
    edge = TlsEdge(CertificateFiles(files.chain, files.key))
    commands = Commands(house, TLSMemoryBIOFactory(edge.creator(Application.POP3), False, house.factory))
    print(commands.listen(), files.authority, flush=True)
    stdio.StandardIO(commands)
    reactor.run()


if __name__ == "__main__":
    main()
