"""The audit log: a row with each change, and no row changed or taken out without being noticed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import support
from support import run

from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox import audit_log
from certmaild.mailbox.account_lists import list_devices
from certmaild.mailbox.accounts import Accounts
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.devices import id_text
from certmaild.mailbox.errors import AddressTaken
from certmaild.mailbox.interfaces import Engine, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import Role, Scope, State
from certmaild.mailbox.layout_guests import audit_key
from certmaild.mailbox.ways_in import Limits

ALICE, SALES = canonical("alice@example.com"), canonical("sales@example.com")


@pytest.fixture(params=["memory", "lmdb"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    engine = support.memory_engine() if request.param == "memory" else support.lmdb_engine(tmp_path)
    yield engine
    run(engine.close())


@pytest.fixture
def secrets(tmp_path: Path) -> ServerSecrets:
    return ServerSecrets.create(tmp_path / "secrets")


def told(engine: Engine, secrets: ServerSecrets) -> list[tuple[str, str, str]]:
    rows, is_whole = run(audit_log.read_all(engine, secrets))
    assert is_whole
    assert {(row.by, row.at_s) for _, row in rows} <= {("command ann", 1_800_000_000)}
    return [(row.act, row.whom, row.detail) for _, row in rows]


def test_each_change_of_an_account_stands_there(engine: Engine, secrets: ServerSecrets) -> None:
    accounts = Accounts(engine, secrets, lambda: 1_800_000_000.0, by="command ann")
    made = run(accounts.create(ALICE, role=Role.APP))
    assert made.device_password is not None
    with pytest.raises(AddressTaken):
        run(accounts.create(ALICE))
    run(accounts.add_alias(SALES, ALICE))
    with run(accounts.unlock(SALES, made.device_password.encode())) as unlocked:
        run(accounts.set_password(unlocked, b"secret words", rounds=1))
        limits = Limits(Scope.SUBMIT, ("192.0.2.0/24", "2001:db8::/48"), 1_800_086_400)
        added, _ = run(accounts.add_device(unlocked, "billing", limits))
    assert run(accounts.revoke(ALICE, added))
    assert not run(accounts.revoke(ALICE, added))
    run(accounts.remove_alias(SALES))
    run(accounts.set_state(ALICE, State.DISABLED))
    run(accounts.set_state(ALICE, State.ACTIVE))
    run(accounts.start_over(ALICE))
    run(accounts.remove_parked(ALICE))
    run(accounts.remove(ALICE))
    words = id_text(added) + ", scopes submit, networks 192.0.2.0/24 2001:db8::/48, expires 2027-01-16T08:00:00Z"
    assert told(engine, secrets) == [
        ("account made", "alice@example.com", "role app"),
        ("alias added", "alice@example.com", "sales@example.com"),
        ("password changed", "alice@example.com", ""),
        ("device made", "alice@example.com", words),
        ("device revoked", "alice@example.com", id_text(added)),
        ("alias removed", "alice@example.com", "sales@example.com"),
        ("account disabled", "alice@example.com", ""),
        ("account enabled", "alice@example.com", ""),
        ("account started over", "alice@example.com", ""),
        ("parked account dropped", "alice@example.com", ""),
        ("account removed", "alice@example.com", ""),
    ]


def test_a_device_shows_its_limits_and_a_program_only_submits(engine: Engine, secrets: ServerSecrets) -> None:
    accounts = Accounts(engine, secrets)
    made = run(accounts.create(ALICE, role=Role.APP))
    assert made.device_password is not None
    with run(accounts.unlock(ALICE, made.device_password.encode())) as unlocked:
        run(accounts.add_device(unlocked, "second"))
    views = run(list_devices(engine, secrets, ALICE))
    assert sorted((view.kind, view.scopes, view.networks, view.expires) for view in views) == [
        ("device", ("submit",), (), None),
        ("device", ("submit",), (), None),
        ("recovery", ("manage",), (), None),
    ]


@pytest.mark.parametrize("harm", ["first", "middle", "changed", "exchanged"])
def test_what_was_done_to_the_log_is_noticed(engine: Engine, secrets: ServerSecrets, harm: str) -> None:
    accounts = Accounts(engine, secrets)
    for number in range(4):
        run(accounts.create(canonical(f"u{number}@example.com")))

    def work(txn: WriteTxn) -> int:
        keys = [audit_key(number) for number in range(1, 5)]
        third = txn.get(Table.AUDIT, keys[2]) or b""
        if harm == "first":
            txn.delete(Table.AUDIT, keys[0])
            return 0
        if harm == "middle":
            txn.delete(Table.AUDIT, keys[2])
        elif harm == "changed":
            txn.put(Table.AUDIT, keys[2], third[:-1] + bytes([third[-1] ^ 1]))
        else:
            txn.put(Table.AUDIT, keys[2], txn.get(Table.AUDIT, keys[1]) or b"")
        return 2

    left = run(engine.write(work))
    rows, is_whole = run(audit_log.read_all(engine, secrets))
    assert not is_whole
    assert [number for number, _ in rows] == list(range(1, left + 1))
