"""Run as a program: the IMAP server over real TLS on a free port, with the mailbox of `imap_support` in memory.

Prints the port and the file of the authority, then serves until standard input ends. A line ``deliver N`` on it puts N
messages into INBOX, ``memory`` prints the resident octets.
"""

import os
import sys
import tempfile
from pathlib import Path

from imap_support import MAIL, House
from twisted.internet import reactor, stdio
from twisted.protocols.basic import LineReceiver
from twisted.protocols.tls import TLSMemoryBIOFactory

from certmaild.keystore.certificates import make_private
from certmaild.keystore.tls import Application, CertificateFiles, TlsEdge
from certmaild.protocols.turns import Turns


class Commands(LineReceiver):
    """Standard input."""

    delimiter = b"\n"

    def __init__(self, house: House) -> None:
        self.house = house

    def lineReceived(self, line: bytes) -> None:
        word, _, rest = line.decode().partition(" ")
        if word == "deliver":
            self.house.deliver(*[MAIL] * int(rest))
        print(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE"), flush=True)

    def connectionLost(self, reason: object = None) -> None:
        reactor.stop()


def main() -> None:
    directory = Path(tempfile.mkdtemp(dir=sys.argv[1]))
    house = House(directory)
    house.factory.turns = Turns(reactor)
    house.factory.clock = reactor
    files = make_private(directory / "tls", ["localhost"])
    edge = TlsEdge(CertificateFiles(files.chain, files.key))
    factory = TLSMemoryBIOFactory(edge.creator(Application.IMAP), isClient=False, wrappedFactory=house.factory)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1", backlog=2000)
    print(port.getHost().port, files.authority, flush=True)
    stdio.StandardIO(Commands(house))
    reactor.run()


if __name__ == "__main__":
    main()
