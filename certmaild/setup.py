"""Making what a server needs before its first start, and opening it afterwards: secrets, certificate, store, account.

In this order, each durable before the next, so that a crash at any point is made good by running it again: the secrets
come before the store, and a store whose secrets are missing is refused, never given new ones.

``python -m certmaild.setup [--config FILE] [--data DIR]`` does it in a process of its own and prints one line of JSON;
twistd has it done so under the user that will own the files. Exit status 1 and a sentence when it cannot be done.
"""

import json
import os
import pwd
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from certmaild.client_setup.names import served_names
from certmaild.client_setup.settings import settings_for
from certmaild.config import ConfigError, default, load
from certmaild.config_values import Config
from certmaild.driving import Driver
from certmaild.keystore.certificates import PrivateFiles, is_due, make_private, renew_leaf
from certmaild.keystore.credentials import ROUNDS_CEILING, ROUNDS_FLOOR, calibrate
from certmaild.keystore.errors import KeystoreError, SecretsMissing
from certmaild.keystore.primitives import self_test
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.accounts import Accounts
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.bells import Bells
from certmaild.mailbox.engine_lmdb import LmdbEngine
from certmaild.mailbox.errors import MailboxError
from certmaild.mailbox.interfaces import Engine, ReadTxn, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import Option
from certmaild.welcome import deliver_welcome

FIRST_NAME = "me"
_CHECK = b"check/"
_ROUNDS = b"rounds"


@dataclass(frozen=True, slots=True)
class SetUp:
    """What a set-up made, or found."""

    ca_file: str | None
    """The authority that clients must trust; None when the certificate is not our own."""
    settings: str
    """What to type into a mail client."""
    account: str | None = None
    """The first account, if it was made just now."""
    device_password: str | None = field(default=None, repr=False)
    recovery_code: str | None = field(default=None, repr=False)


class NotSetUp(Exception):
    """There is no store yet; the text is fit to print."""


def is_set_up(config: Config) -> bool:
    """Whether there is a store."""
    return (config.store / "data.mdb").exists()


def lacks_certificate(config: Config) -> bool:
    """Whether our own authority's certificate is missing, as after a restore without ``tls/``."""
    return config.tls.private and not config.tls.default.certificate.exists()


def become_owner(directory: Path) -> None:
    """When root: become the owner of ``directory`` (or of its nearest existing parent), for good."""
    if os.geteuid() != 0:
        return
    while not directory.exists():
        directory = directory.parent
    owner = directory.stat()
    if owner.st_uid == 0:
        return
    try:
        os.initgroups(pwd.getpwuid(owner.st_uid).pw_name, owner.st_gid)
    except KeyError:
        os.setgroups([])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)


def load_secrets(config: Config) -> ServerSecrets:
    """The server's secrets. Raises `SecretsMissing`, `SecretsExposed`."""
    return ServerSecrets.load(config.secrets)


async def verify_store(engine: Engine, secrets: ServerSecrets) -> None:
    """Compare the secrets with the check values in the store. Raises `SecretsMissing`, whose text names the secret.

    A newer pepper is noted there from now on, so that it is missed if it is lost.
    """
    stored = await engine.read(_read_checks)
    if not stored:
        raise SecretsMissing("the store does not say with which secrets it was made; run certmaild init")
    secrets.verify(stored)
    newer = {name: value for name, value in secrets.check_values().items() if name not in stored}
    if newer:
        await engine.write(lambda txn: _put_checks(txn, newer))


async def stored_rounds(engine: Engine) -> int:
    """Rounds for new human passwords as calibrated on this machine; the floor when that was not done."""
    value = await engine.read(lambda txn: txn.get(Table.META, _ROUNDS))
    rounds = ROUNDS_FLOOR if value is None else int.from_bytes(value, "big")
    return max(ROUNDS_FLOOR, min(ROUNDS_CEILING, rounds))


async def store_rounds(engine: Engine, rounds: int) -> None:
    """Keep what `calibrate` found."""
    await engine.write(lambda txn: txn.put(Table.META, _ROUNDS, rounds.to_bytes(4, "big")))


def _read_checks(txn: ReadTxn) -> dict[str, bytes]:
    stop = _CHECK[:-1] + bytes([_CHECK[-1] + 1])
    return {key.removeprefix(_CHECK).decode("ascii"): value for key, value in txn.scan(Table.META, _CHECK, stop)}


def _put_checks(txn: WriteTxn, values: Mapping[str, bytes]) -> None:
    for name, value in values.items():
        txn.put(Table.META, _CHECK + name.encode("ascii"), value)


async def _mark_store(engine: Engine, secrets: ServerSecrets) -> None:
    """Write the check values into a store without accounts; into one with accounts they are not written again."""

    def work(txn: WriteTxn) -> bool:
        if _read_checks(txn) or next(txn.scan(Table.ACCT, b""), None) is not None:
            return False
        _put_checks(txn, secrets.check_values())
        return True

    if not await engine.write(work):
        await verify_store(engine, secrets)


@contextmanager
def opened(config: Config) -> Iterator[tuple[Driver, LmdbEngine, ServerSecrets]]:
    """The store of a server that is set up, for one command; beside a running server too. Raises `NotSetUp`."""
    if not is_set_up(config):
        raise NotSetUp(f"There is no store in {config.data}: run certmaild init first.")
    secrets = load_secrets(config)
    driver = Driver()
    bells = Bells(config.bells)
    engine = LmdbEngine(config.store, driver, secrets, bells=bells, floor_octets=config.free_disk)
    try:
        driver.run(verify_store(engine, secrets))
        yield driver, engine, secrets
    finally:
        driver.run(_close(engine))


async def _close(engine: LmdbEngine) -> None:
    await engine.close()


def set_up(config: Config, *, first_account: bool | None = None) -> SetUp:
    """Make what is missing and check what is there.

    ``first_account``: whether a store without accounts gets one, ``me`` at the first domain; by default only without a
    configuration file. Raises `KeystoreError`, `MailboxError`, `OSError`.
    """
    self_test()
    config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    if is_set_up(config) or (config.secrets.is_dir() and any(config.secrets.iterdir())):
        secrets = load_secrets(config)
    else:
        secrets = ServerSecrets.create(config.secrets)
    ca_file = _make_certificate(config)
    driver = Driver()
    engine = LmdbEngine(config.store, driver, secrets, floor_octets=config.free_disk)
    try:
        wanted = config.path is None if first_account is None else first_account
        return driver.run(_fill(engine, secrets, config, ca_file, wanted))
    finally:
        driver.run(_close(engine))


def _make_certificate(config: Config) -> Path | None:
    """Our own authority and certificate, made or renewed; None when the configuration names another certificate."""
    if not config.tls.private:
        return None
    files, names = PrivateFiles(config.data), served_names(config)
    if not files.authority.exists():
        make_private(config.data, names)
    elif not files.chain.exists() or is_due(files, names):
        renew_leaf(config.data, names)
    return files.authority


async def _fill(
    engine: LmdbEngine, secrets: ServerSecrets, config: Config, ca_file: Path | None, first_account: bool
) -> SetUp:
    await _mark_store(engine, secrets)
    if await engine.read(lambda txn: txn.get(Table.META, _ROUNDS)) is None:
        await store_rounds(engine, config.passwords.rounds or calibrate())
    ca = None if ca_file is None else str(ca_file)
    empty = await engine.read(lambda txn: next(txn.scan(Table.ACCT, b""), None) is None)
    if not (first_account and empty):
        return SetUp(ca, client_settings(config))
    made = await Accounts(engine, secrets).create(
        canonical(f"{FIRST_NAME}@{config.domains[0]}"), options=Option.SERVICE_FOLDERS
    )
    await deliver_welcome(engine, secrets, config, made.address)
    return SetUp(ca, client_settings(config), made.address, made.device_password, made.recovery_code)


def client_settings(config: Config) -> str:
    """What to type into a mail client, a line a listener."""
    settings = settings_for(config, "")
    ways = [("Incoming", one) for one in settings.incoming] + [("Outgoing", one) for one in settings.outgoing]
    return "\n".join(
        f"{which} mail, {one.speaks.value}: server {one.host}, port {one.port}, {one.security.value}, normal password"
        for which, one in ways
    )


def main(arguments: list[str] | None = None) -> int:
    """The child process of the first start."""
    parser = ArgumentParser(prog="python -m certmaild.setup")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--data", type=Path)
    given = parser.parse_args(arguments)
    try:
        config = default(given.data) if given.config is None else load(given.config, given.data)
        made = set_up(config)
    except (ConfigError, KeystoreError, MailboxError, OSError) as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    sys.stdout.write(json.dumps(asdict(made)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
