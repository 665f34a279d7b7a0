"""What the supervisor and a worker say to each other: one JSON object a line, over a socket pair that both watch.

With a message may go open files (listening sockets). The end of the channel says that the other side is gone. Both are
processes of one user and one version of the program; what a worker reads from the supervisor it trusts.
"""

import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

_LINE_OCTETS = 16 << 20
"""A line may carry the whole configuration."""


@implementer(IFileDescriptorReceiver)
class Channel(LineOnlyReceiver):
    """One end. ``heard`` is called with each message, ``ended`` once when the other side is gone."""

    delimiter = b"\n"
    MAX_LENGTH = _LINE_OCTETS

    def __init__(self, heard: Callable[[dict[str, Any]], None], ended: Callable[[], None]) -> None:
        self._heard = heard
        self._ended = ended
        self._gone: Deferred[None] = Deferred()
        self._is_open = True
        self._received: list[int] = []

    def say(self, message: Mapping[str, object], files: Sequence[int] = ()) -> None:
        """Send a message, and with it open files by their descriptors; to who is gone, nothing."""
        if self._is_open:
            transport: Any = self.transport
            for descriptor in files:
                transport.sendFileDescriptor(descriptor)
            transport.write(json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n")

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """Called by Twisted for each file, before the message that it came with."""
        os.set_inheritable(descriptor, False)
        self._received.append(descriptor)

    def take_files(self) -> list[int]:
        """The descriptors of the files that have come."""
        files, self._received = self._received, []
        return files

    def lineReceived(self, line: bytes) -> None:
        """Called by Twisted for each line."""
        self._heard(json.loads(line))

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Called by Twisted once."""
        self._is_open = False
        self._ended()
        self._gone.callback(None)

    def finish(self) -> "Deferred[None]":
        """Send what is still to be sent, then close; fires when that is done."""
        if self._is_open:
            transport: Any = self.transport
            transport.loseConnection()
        return self._gone


def join(
    reactor: Any, end: socket.socket, heard: Callable[[dict[str, Any]], None], ended: Callable[[], None]
) -> Channel:
    """A channel over one end of a socket pair, which it takes over."""
    channel = Channel(heard, ended)
    end.setblocking(False)
    reactor.adoptStreamConnection(end.fileno(), socket.AF_UNIX, _Once(channel))
    end.close()
    return channel


class _Once(Factory):
    """The factory of one channel."""

    noisy = False

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def buildProtocol(self, addr: object) -> Protocol:
        """The channel."""
        return self._channel
