"""Listening sockets: bound while the process may still bind low ports, listened on once the servers exist."""

import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from twisted.logger import Logger
from twisted.python.systemd import ListenFDs

from certmaild.config_values import Listen

log = Logger()
BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class BoundSocket:
    """One bound socket of a listener (``imaps`` and so on)."""

    listener: str
    socket: socket.socket


class CannotListen(Exception):
    """An address or port is not to be had; the text is fit to print."""


def bind(listen: Listen) -> list[BoundSocket]:
    """Bind every listener's port on every address. Raises `CannotListen`, and nothing stays bound."""
    bound: list[BoundSocket] = []
    try:
        for name, port in listen.ports().items():
            bound += [BoundSocket(name, one) for one in _sockets(listen.address, port)]
    except CannotListen:
        for one in bound:
            one.socket.close()
        raise
    return bound


def _sockets(addresses: tuple[str, ...], port: int | str) -> Iterator[socket.socket]:
    if isinstance(port, str):
        yield _from_systemd(port.removeprefix("systemd:"))
        return
    for address in addresses:
        made = _socket(address, port)
        if made is not None:
            yield made


def _from_systemd(name: str) -> socket.socket:
    descriptors = ListenFDs.fromEnvironment().inheritedNamedDescriptors()
    if name not in descriptors:
        raise CannotListen(f'systemd hands over no socket named "{name}": look at FileDescriptorName= in the unit.')
    given = socket.socket(fileno=descriptors[name])
    given.setblocking(False)
    return given


def _socket(address: str, port: int) -> socket.socket | None:
    """A bound, listening socket; None for an IPv6 loopback that this machine does not have."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        made = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        if address == "::1":
            log.warn("this machine has no IPv6: not listening on ::1")
            return None
        raise CannotListen(f"Cannot listen on {address}: this machine lacks its address family.") from None
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Else 0.0.0.0 and :: collide.
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((address, port))
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        if address == "::1" and error.errno == errno.EADDRNOTAVAIL:
            log.warn("this machine has no ::1: not listening there")
            return None
        raise CannotListen(_why(address, port, error)) from None
    return made


def _why(address: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {address} is taken: stop the server that has it, perhaps a certmaild that runs already, "
            "or name another port under [listen] in the configuration."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"Port {port} on {address} may not be bound by this user: start as root with twistd --uid and --gid, "
            "give CAP_NET_BIND_SERVICE, or let systemd hand the socket over."
        )
    return f"Cannot listen on port {port} of {address}: {error.strerror}."
