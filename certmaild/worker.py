"""A worker process: ``python -m certmaild.worker DESCRIPTOR``, started by the supervisor.

It inherits one end of a channel, is given on it the listening sockets, its number and the configuration, and serves
until it is told to stop or the supervisor is gone.
"""

import os
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, Logger, LogLevel, eventAsText, globalLogBeginner
from zope.interface import implementer

from certmaild.channel import Channel, join
from certmaild.config import ConfigError, again
from certmaild.config_values import Config
from certmaild.house import House, Post
from certmaild.keystore.errors import KeystoreError
from certmaild.keystore.primitives import self_test
from certmaild.keystore.process import harden
from certmaild.listeners import BoundSocket
from certmaild.setup import NotSetUp

log = Logger()
SWITCH_INTERVAL_S = 0.0005
"""How soon the writer thread hands the interpreter back: at Python's 5 ms every commit would wait for it."""
ORPHANED_S = 5
"""How long the sessions of a worker whose supervisor is gone may take at most."""


def config_message(config: Config) -> dict[str, str | None]:
    """The configuration as it goes over the channel: its words, so that both read the same."""
    return {
        "path": None if config.path is None else str(config.path),
        "data": str(config.data),
        "secrets": str(config.secrets),
        "text": config.text,
    }


def read_config_message(message: dict[str, Any]) -> Config:
    """Inverse of `config_message`. Raises `ConfigError`."""
    path = message["path"]
    config = again(None if path is None else Path(path), message["text"], message["data"])
    return replace(config, secrets=Path(message["secrets"]))


@implementer(ILogObserver)
class LogToSupervisor:
    """Gives every event, as the text that a log shows, to the supervisor, who keeps the one log."""

    def __init__(self, reactor: Any, channel: Channel) -> None:
        self._reactor = reactor
        self._channel = channel

    def __call__(self, event: dict[str, Any]) -> None:
        """Called by Twisted on any thread."""
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        level = event.get("log_level") or LogLevel.info
        said = {"log": text, "level": level.name, "namespace": event.get("log_namespace") or "-"}
        self._reactor.callFromThread(self._say, said)

    def _say(self, said: dict[str, object]) -> None:
        self._channel.say(said)


class Worker:
    """One worker's life."""

    def __init__(self, reactor: Any, control: socket.socket) -> None:
        self._reactor = reactor
        self._house: House | None = None
        self._is_stopping = False
        self._channel = join(reactor, control, self._heard, self._orphaned)
        observer = cast("ILogObserver", LogToSupervisor(reactor, self._channel))
        globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
        reactor.addSystemEventTrigger("before", "shutdown", self._close)

    def _heard(self, message: dict[str, Any]) -> None:
        """What the supervisor says."""
        match message["do"]:
            case "open":
                self._open(message)
            case "take over":
                self._take_over(message["config"])
            case "reload certificates":
                self._reload_certificates()
            case "look":
                if self._house is not None:
                    self._house.engine.hub.deliver_everything()
            case "make room":
                if self._house is not None:
                    self._house.doorkeeper.make_room()
            case "stop":
                self.stop()
            case "cut off":
                self._cut_off()

    def _open(self, message: dict[str, Any]) -> None:
        files = self._channel.take_files()
        bound = [BoundSocket(*one) for one in zip(message["listeners"], map(_socket, files), strict=True)]
        try:
            config = read_config_message(message["config"])
            key = bytes.fromhex(message["key"])
            post = Post(message["slot"], message["workers"], key, self._ask_for_room)
            self._house = House(config, self._reactor, post)
        except (ConfigError, KeystoreError, NotSetUp, OSError) as problem:
            self._fail(str(problem))
            return
        except Exception:
            log.failure("a worker cannot start")
            self._fail("a fault of the program; the log has more.")
            return
        opening = Deferred.fromCoroutine(self._house.open(bound))
        opening.addCallbacks(lambda _: self._channel.say({"do": "serving"}), self._failed_to_open)

    def _ask_for_room(self, slot: int) -> None:
        self._channel.say({"do": "make room", "slot": slot})

    def _failed_to_open(self, failure: Any) -> None:
        if not failure.check(KeystoreError, NotSetUp):
            log.failure("a worker cannot start", failure)
        self._fail(str(failure.value))

    def _fail(self, problem: str) -> None:
        self._channel.say({"do": "failed", "problem": problem})
        self.stop()

    def _take_over(self, message: dict[str, Any]) -> None:
        try:
            if self._house is not None:
                self._house.take_over(read_config_message(message))
        except (ConfigError, KeystoreError) as problem:
            log.error("not reloaded: {problem}", problem=str(problem))

    def _reload_certificates(self) -> None:
        try:
            if self._house is not None:
                self._house.reload_certificates()
        except KeystoreError as problem:
            log.error("the renewed certificate is not taken: {problem}", problem=str(problem))

    # The end.

    def stop(self) -> None:
        """Stop politely. A service manager may tell us what the supervisor tells us as well."""
        if self._is_stopping:
            return
        self._is_stopping = True
        if self._reactor.running:
            self._reactor.stop()
        else:
            self._reactor.callWhenRunning(self._reactor.stop)

    def _orphaned(self) -> None:
        """The supervisor is gone (or has closed the channel of a worker that has finished)."""
        if not self._is_stopping:
            self._reactor.callLater(ORPHANED_S, self._cut_off)
            self.stop()

    def _cut_off(self) -> None:
        if self._house is not None:
            self._house.cut_off()

    def _close(self) -> "Deferred[None]":
        """Before the reactor stops: let go of everything, and let the supervisor hear the last of it."""
        self._is_stopping = True
        return Deferred.fromCoroutine(self._closed())

    async def _closed(self) -> None:
        try:
            if self._house is not None:
                await self._house.close()
        except Exception:
            log.failure("stopping failed")
        await self._channel.finish()


def _socket(descriptor: int) -> socket.socket:
    return socket.socket(fileno=descriptor)


def main(arguments: list[str] | None = None) -> None:
    """Run until told to stop."""
    given = sys.argv[1:] if arguments is None else arguments
    from twisted.internet import reactor as ready

    reactor: Any = ready
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    harden()
    self_test()
    # The supervisor reloads us, and a terminal's Ctrl-C reaches it as well.
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    os.set_inheritable(int(given[0]), False)
    worker = Worker(reactor, _socket(int(given[0])))
    signal.signal(signal.SIGTERM, lambda *_: reactor.callFromThread(worker.stop))
    reactor.run(installSignalHandlers=False)


if __name__ == "__main__":
    main()
