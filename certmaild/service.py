"""What twistd starts: options, the first set-up, and the service, whose work one process does or several.

twistd calls `makeService` before it forks and drops privileges, so that opens no store and starts no thread (an LMDB
lock would not survive the fork). Sockets are bound in `privilegedStartService`; everything else is made in
`startService`, under the user that owns the data.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python import usage

from certmaild.config import ConfigError, default, load
from certmaild.config_check import restart_keys, taken_over
from certmaild.config_values import Config
from certmaild.house import House
from certmaild.keystore.errors import KeystoreError
from certmaild.keystore.primitives import self_test
from certmaild.keystore.process import harden
from certmaild.listeners import BoundSocket, CannotListen, bind
from certmaild.mailbox.errors import MailboxError
from certmaild.setup import NotSetUp, is_set_up, lacks_certificate
from certmaild.supervisor import Supervisor, WorkersFailed
from certmaild.worker import SWITCH_INTERVAL_S

log = Logger()


class Options(usage.Options):
    """`twistd certmaild --help`."""

    synopsis = "[--config FILE] [--data DIR]"
    longdesc: ClassVar[str] = (
        "A secure mailbox server over IMAPS, POP3S and SMTP. Without --config it serves one account for localhost on "
        "high ports of 127.0.0.1 from ./certmaild-data, made at the first start. With --config, run "
        "`certmaild --config FILE init` first."
    )
    optParameters: ClassVar[list[list[Any]]] = [
        ["config", "c", None, "The configuration, a TOML file (see docs/operations.md)."],
        ["data", "d", None, "The data directory, in place of the configuration's: store/ and, beside it, secrets/."],
    ]


def makeService(options: Options) -> "MailService":
    """Check the configuration, do the first set-up in a child process, and give the service (twistd calls this)."""
    try:
        config = read_config(options["config"], options["data"])
        self_test()
        _set_up_first(config, options)
    except (ConfigError, KeystoreError, NotSetUp, OSError) as problem:
        # twistd would print a traceback for any other exception.
        raise SystemExit(f"certmaild: {_words(problem)}") from None
    return MailService(config, data=options["data"])


def read_config(path: str | None, data: str | None) -> Config:
    """The configuration named on the command line, else the default. Raises `ConfigError`."""
    return default(data) if path is None else load(Path(path), None if data is None else Path(data))


def _set_up_first(config: Config, options: Options) -> None:
    """Without a store: make one in a child under the target user if somebody watches, else say what to do."""
    if is_set_up(config):
        if lacks_certificate(config):
            raise NotSetUp(
                f"there is no certificate in {config.data}. Put back the copies of tls/ and ca.pem; without a "
                "copy remove ca.pem, if it is there, and run `certmaild init`: clients must trust the new one."
            )
        return
    twistd: Any = options.parent or {}
    if config.path is not None or not twistd.get("nodaemon"):
        raise NotSetUp(f"there is no store in {config.data}. Run `certmaild init` first.")
    words = [sys.executable, "-m", "certmaild.setup", "--data", str(config.data)]
    uid, gid = twistd.get("uid"), twistd.get("gid")
    if uid is not None and os.geteuid() == 0:
        config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chown(config.data, uid, -1 if gid is None else gid)
    done = subprocess.run(words, stdout=subprocess.PIPE, user=uid, group=gid, text=True, check=False)
    if done.returncode:
        raise NotSetUp("the first set-up failed; what it said stands above.")
    made = json.loads(done.stdout)
    # The real terminal: twistd begins to log only after this, so nothing of it is in a log.
    sys.stdout.write(_first_words(made))
    sys.stdout.flush()


def _first_words(made: dict[str, str | None]) -> str:
    """What a person sees at the very first start, once."""
    return f"""
certmaild is set up. This is shown once: write it down.

  User name        {made["account"]}
  Password         {made["device_password"]}
  Recovery code    {made["recovery_code"]}
                   (opens the account for a new password when all else is lost)

In your mail program:
  {(made["settings"] or "").replace(chr(10), chr(10) + "  ")}
  Certificate authority to trust: {made["ca_file"]}

"""


class MailService(Service):
    """The sockets, the signals, and who serves: this process (`House`) or workers (`Supervisor`)."""

    def __init__(self, config: Config, *, data: str | None = None) -> None:
        self.config = config
        self._data = data
        self._bound: list[BoundSocket] = []
        self._server: House | Supervisor | None = None

    def privilegedStartService(self) -> None:
        """Bind the sockets, as root if twistd was started so."""
        try:
            self._bound = bind(self.config.listen)
        except CannotListen as problem:
            log.critical("{problem}", problem=str(problem))
            raise SystemExit(f"certmaild: {problem}") from None

    def startService(self) -> None:
        """Open the store, then the doors, under the user who owns the data."""
        super().startService()  # type: ignore[no-untyped-call]
        from twisted.internet import reactor

        sys.setswitchinterval(SWITCH_INTERVAL_S)
        harden()
        started = Deferred.fromCoroutine(self._start(reactor))
        started.addErrback(self._failed_to_start, reactor)
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(self.reload))

    async def _start(self, reactor: Any) -> None:
        kind = Supervisor if self.config.workers else House
        self._server = kind(self.config, reactor)
        await self._server.open(self._bound)
        if self._server.engine.free_octets() <= 0:
            log.warn(
                "new mail is refused: the disk of {store} has less than free_disk ({octets} octets) left; make room",
                store=self.config.store,
                octets=self.config.free_disk,
            )

    def _failed_to_start(self, failure: Any, reactor: Any) -> None:
        if failure.check(KeystoreError, MailboxError, NotSetUp, OSError, WorkersFailed):
            log.critical("cannot start: {problem}", problem=_words(failure.value))
        else:
            log.failure("cannot start", failure)
        reactor.callWhenRunning(_stop, reactor)

    def stopService(self) -> "Deferred[None]":  # pyright: ignore[reportIncompatibleMethodOverride]
        """Stop accepting, let commands in flight finish, close the store; a second signal cuts what is left off."""
        super().stopService()  # type: ignore[no-untyped-call]
        server, self._server = self._server, None
        if server is None:
            return succeed(None)
        from twisted.internet import reactor

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: reactor.callFromThread(server.cut_off))
        return Deferred.fromCoroutine(server.close())

    def reload(self) -> None:
        """SIGHUP: certificates and settings anew; sessions go on. What is wrong is logged, and all stays as it was."""
        path = None if self.config.path is None else str(self.config.path)
        try:
            new = read_config(path, self._data)
            for key in restart_keys(self.config, new):
                log.warn("{key} changed: it counts only after a restart", key=key)
            new = taken_over(self.config, new)
            if self._server is not None:
                self._server.take_over(new)
            self.config = new
        except (ConfigError, KeystoreError) as problem:
            log.error("not reloaded, all stays as it was: {problem}", problem=str(problem))
            return
        log.info("reloaded certificates and configuration")


def _words(problem: BaseException) -> str:
    """What a person is told of why the start failed."""
    if not isinstance(problem, OSError):
        return str(problem)
    text = f"{problem.filename or 'the operating system'}: {problem.strerror or type(problem).__name__}"
    if isinstance(problem, PermissionError):
        text += "; the user that the server runs as must own the data directory and may read the program"
    return text


def _stop(reactor: Any) -> None:
    """End the process with status 1: twistd itself ends with 0 whatever happened."""
    reactor.addSystemEventTrigger("after", "shutdown", os._exit, 1)
    reactor.stop()
