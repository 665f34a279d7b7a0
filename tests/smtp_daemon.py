"""A small SMTP server for tests: the real listeners, delivery and TLS over a store of two accounts.

``python tests/smtp_daemon.py FOLDER [lmdb]`` prints one JSON line with its ports, and on every line of standard input
another with its CPU seconds and how many messages each account holds; it ends when standard input does. Everybody's
password is ``secret``; ann is ``ann@example.com``, bob ``bob@example.com``.
"""

import json
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.protocols.tls import TLSMemoryBIOFactory

from certmaild.delivery import Delivery
from certmaild.doorkeeper import InProcessDoorkeeper
from certmaild.filing import DeliverySettings
from certmaild.keystore.certificates import make_private
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.keystore.tls import Application, CertificateFiles, TlsEdge
from certmaild.keystore.users import create_user_keys
from certmaild.mailbox import ownership
from certmaild.mailbox.account_rows import write_account
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.directory import Directory
from certmaild.mailbox.engine_lmdb import LmdbEngine
from certmaild.mailbox.engine_memory import MemoryEngine
from certmaild.mailbox.identifiers import CredentialId, UserId
from certmaild.mailbox.interfaces import Engine, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import Account, Role, SentCopies, State, encode_owner
from certmaild.protocols.interfaces import Login, LogInRefused
from certmaild.protocols.limits import Limits
from certmaild.protocols.smtp.interfaces import Listener
from certmaild.protocols.smtp.server import SmtpFactory
from certmaild.protocols.smtp.terrain import Terrain
from certmaild.routing import Router

reactor: Any = _reactor


class Gate:
    """Lets in everybody who knows the word."""

    def __init__(self, users: dict[str, Any]) -> None:
        self.users = users

    async def log_in(self, username: bytes, password: bytes, *, service: object, peer: str) -> Login:
        user = self.users.get(username.decode().partition("@")[0])
        if user is None or password != b"secret":
            raise LogInRefused
        name = username.decode().partition("@")[0]
        return Login(UserId(user.user_id), f"{name}@example.com", CredentialId(1), False, user.keys)

    async def is_valid(self, login: Login) -> bool:
        return True

    def log_out(self, login: Login) -> None:
        pass

    async def open_mailbox(self, login: Login) -> Any:
        raise NotImplementedError


def add_users(engine: Engine, secrets: ServerSecrets) -> dict[str, Any]:
    users = {}
    for name in ("ann", "bob"):
        user = users[name] = create_user_keys(secrets)
        address = canonical(f"{name}@example.com")
        account = Account(
            State.ACTIVE, Role.MEMBER, SentCopies.CLIENT, None, None, 1, 1, address.lookup, address.display
        )

        def work(txn: WriteTxn, user: Any = user, address: Any = address, account: Account = account) -> None:
            txn.put(Table.ADDR, address.key, encode_owner(UserId(user.user_id)))
            write_account(txn, secrets, UserId(user.user_id), account)
            txn.put(Table.PK, user.user_id, user.public_key_row)

        engine.write(work)
    return users


def listen(folder: Path, engine: Engine) -> dict[str, Any]:
    """Start all three listeners; their ports, the CA's file, and a way to ask for the figures."""
    secrets = ServerSecrets.create(folder / "secrets")
    users = add_users(engine, secrets)
    files = make_private(folder, ["localhost"])
    edge = TlsEdge(CertificateFiles(files.chain, files.key))
    creator = edge.creator(Application.SMTP)
    directory = Directory(engine, secrets)
    delivery = Delivery(
        engine,
        secrets,
        directory,
        Router(directory, ("example.com",)),
        DeliverySettings("localhost"),
        seconds=reactor.seconds,
        in_thread=lambda work: deferToThreadPool(reactor, reactor.getThreadPool(), work),
    )
    limits = Limits()
    ports = {}
    for listener in Listener:
        factory: Any = SmtpFactory(
            Terrain(listener, "localhost", limits),
            reception=delivery,
            clock=reactor,
            doorkeeper=InProcessDoorkeeper(limits),
            gatekeeper=Gate(users),
            tls=None if listener is Listener.SUBMISSIONS else creator,
            hub=engine.hub,
            hash_address=secrets.trace_hash,
        )
        if listener is Listener.SUBMISSIONS:
            factory = TLSMemoryBIOFactory(creator, False, factory)
        ports[listener.value] = reactor.listenTCP(0, factory, interface="127.0.0.1").getHost().port

    def figures() -> dict[str, Any]:
        counts = {}
        for name, user in users.items():
            engine.read(
                lambda txn, user=user, name=name: counts.update(  # type: ignore[misc]
                    {name: ownership.read_use(txn, secrets, UserId(user.user_id)).messages}
                )
            )
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "main_s": time.thread_time(),
            "rss_kib": usage.ru_maxrss,
            **counts,
        }

    return {"ports": ports, "ca": str(files.authority), "figures": figures}


def main() -> None:
    folder = Path(sys.argv[1])
    globalLogBeginner.beginLoggingTo(
        [textFileLogObserver(open(folder / "log", "a"))],  # noqa: SIM115
        redirectStandardIO=False,
        discardBuffer=True,
    )
    engine: Engine = LmdbEngine(folder / "store", reactor) if "lmdb" in sys.argv[2:] else MemoryEngine()
    known = listen(folder, engine)
    figures = known.pop("figures")
    print(json.dumps(known), flush=True)

    def answer() -> None:
        for _ in sys.stdin:
            reactor.callFromThread(lambda: print(json.dumps(figures()), flush=True))
        reactor.callFromThread(stop)

    def stop() -> None:
        async def close() -> None:
            await engine.close()

        Deferred.fromCoroutine(close()).addBoth(lambda _: reactor.stop())

    threading.Thread(target=answer, daemon=True).start()
    reactor.run()


if __name__ == "__main__":
    main()
