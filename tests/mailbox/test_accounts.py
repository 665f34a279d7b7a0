"""Accounts on both engines: made, changed, looked up, started over and removed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import support
from support import run

from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox import account_rows, ownership
from certmaild.mailbox.account_lists import list_accounts, list_aliases, list_devices, show_account
from certmaild.mailbox.accounts import Accounts
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.directory import Directory
from certmaild.mailbox.errors import AccountMissing, AddressError, AddressTaken, Damaged, SecretRefused
from certmaild.mailbox.identifiers import BlobId, Mid
from certmaild.mailbox.interfaces import Engine, WriteTxn
from certmaild.mailbox.layout import Table, decode_dead_key, encode_count
from certmaild.mailbox.layout_accounts import (
    State,
    decode_account,
    decode_credential,
    encode_account,
    encode_credential,
)
from certmaild.mailbox.removal import SLICE_ROWS, remove_orphans
from certmaild.mailbox.ways_in import label_of

ALICE = canonical("Alice@Example.com")


@pytest.fixture(params=["memory", "lmdb"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    engine = support.memory_engine() if request.param == "memory" else support.lmdb_engine(tmp_path)
    yield engine
    run(engine.close())


@pytest.fixture
def secrets(tmp_path: Path) -> ServerSecrets:
    return ServerSecrets.create(tmp_path / "secrets")


@pytest.fixture
def accounts(engine: Engine, secrets: ServerSecrets) -> Accounts:
    return Accounts(engine, secrets, lambda: 1_800_000_000.0)


def rows_of(engine: Engine, user_id: bytes) -> dict[Table, int]:
    """How many rows each table has whose key begins with this user."""
    return run(
        engine.read(
            lambda txn: {
                table: count
                for table in Table
                if table is not Table.RING and (count := sum(key[:16] == user_id for key, _ in txn.scan(table, b"")))
            }
        )
    )


def test_a_new_account_can_be_found_and_unlocked(engine: Engine, secrets: ServerSecrets, accounts: Accounts) -> None:
    made = run(accounts.create(ALICE, octets_limit=1000))
    assert made.address == "alice@example.com"
    assert made.device_password is not None
    assert made.device_password not in repr(made)
    for secret in (made.device_password, made.recovery_code, made.recovery_code.lower().replace("-", " ")):
        with run(accounts.unlock(ALICE, secret.encode())) as unlocked:
            assert unlocked.user_id == made.user_id
    facts = run(Directory(engine, secrets).recipient(canonical("ALICE+lists@example.com")))
    assert facts is not None
    assert facts.user_id == made.user_id
    assert facts.is_active
    assert facts.octets_left == 1000
    assert facts.has_room_for(1000)
    assert not facts.has_room_for(1001)
    assert run(Directory(engine, secrets).recipient(canonical("bob@example.com"))) is None
    assert run(Directory(engine, secrets).first_member()) == "alice@example.com"


def test_with_a_password_no_device_password_is_made(accounts: Accounts) -> None:
    made = run(accounts.create(ALICE, password=b"correct horse", rounds=1))
    assert made.device_password is None
    with run(accounts.unlock(ALICE, b"correct horse")):
        pass
    for wrong in (b"wrong horse", b"", made.recovery_code[:-1].encode()):
        with pytest.raises(SecretRefused):
            run(accounts.unlock(ALICE, wrong))
    with pytest.raises(ValueError, match="empty"):
        run(accounts.create(canonical("bob@example.com"), password=b"", rounds=1))


def test_refused_addresses(accounts: Accounts) -> None:
    run(accounts.create(ALICE))
    for text in ("alice@example.com", '"ALICE"@example.com'):
        with pytest.raises(AddressTaken):
            run(accounts.create(canonical(text)))
    for text in ("a+b@example.com", "a@[192.0.2.1]", "a" * 65 + "@example.com"):
        with pytest.raises(AddressError):
            run(accounts.create(canonical(text)))
    run(accounts.create(canonical("a" * 64 + "@example.com")))


def test_a_changed_password_opens_and_the_old_one_no_longer(accounts: Accounts) -> None:
    made = run(accounts.create(ALICE, password=b"old", rounds=1))
    with run(accounts.unlock(ALICE, made.recovery_code.encode())) as unlocked:
        run(accounts.set_password(unlocked, b"new", rounds=2))
    with run(accounts.unlock(ALICE, b"new")) as unlocked:
        assert unlocked.user_id == made.user_id
    with pytest.raises(SecretRefused):
        run(accounts.unlock(ALICE, b"old"))


def test_devices(engine: Engine, secrets: ServerSecrets, accounts: Accounts) -> None:
    made = run(accounts.create(ALICE))
    assert made.device_password is not None
    with run(accounts.unlock(ALICE, made.device_password.encode())) as unlocked:
        credential_id, text = run(accounts.add_device(unlocked, "Telefön"))
        (view,) = [one for one in run(list_devices(engine, secrets, ALICE)) if one.credential_id == credential_id]
        assert label_of(view.row, credential_id, unlocked.keys) == "Telefön"
        assert "Telefön".encode() not in encode_credential(view.row)
    assert view.kind == "device"
    assert view.last_used is None
    with run(accounts.unlock(ALICE, text.encode())):
        pass
    assert run(accounts.revoke(ALICE, credential_id))
    assert not run(accounts.revoke(ALICE, credential_id))
    with pytest.raises(SecretRefused):
        run(accounts.unlock(ALICE, text.encode()))


def test_aliases(engine: Engine, secrets: ServerSecrets, accounts: Accounts) -> None:
    made = run(accounts.create(ALICE))
    sales, directory = canonical("Sales@example.com"), Directory(engine, secrets)
    with pytest.raises(AccountMissing):
        run(accounts.add_alias(sales, canonical("bob@example.com")))
    run(accounts.add_alias(sales, ALICE))
    for taken in (sales, ALICE):
        with pytest.raises(AddressTaken):
            run(accounts.add_alias(taken, ALICE))
    target = run(directory.find(canonical("sales+x@example.com")))
    assert target is not None
    assert target.user_id == made.user_id
    assert target.address == "alice@example.com"
    assert run(directory.owns(made.user_id, sales))
    assert run(list_aliases(engine)) == [("sales@example.com", "alice@example.com")]
    assert run(show_account(engine, secrets, sales)).aliases == ("sales@example.com",)
    with pytest.raises(AccountMissing):
        run(accounts.remove_alias(ALICE))
    run(accounts.remove_alias(sales))
    assert run(directory.find(sales)) is None


def test_disabling_is_announced_and_seen_at_rcpt(engine: Engine, secrets: ServerSecrets, accounts: Accounts) -> None:
    made = run(accounts.create(ALICE))
    heard: list[Change] = []
    engine.hub.watch(made.user_id, heard.append)  # type: ignore[attr-defined]
    run(accounts.set_state(ALICE, State.DISABLED))
    assert heard == [Change(ChangeKind.ACCOUNT, made.user_id)]
    facts = run(Directory(engine, secrets).recipient(ALICE))
    assert facts is not None
    assert not facts.is_active
    run(accounts.set_state(ALICE, State.ACTIVE))
    changed = run(accounts.change(ALICE, lambda account: replace(account, octets_limit=5)))
    assert changed.octets_limit == 5
    assert run(show_account(engine, secrets, ALICE)).octets_limit == 5
    with pytest.raises(AccountMissing):
        run(accounts.set_state(canonical("bob@example.com"), State.DISABLED))


def test_starting_over_parks_the_old_account(engine: Engine, secrets: ServerSecrets, accounts: Accounts) -> None:
    old = run(accounts.create(ALICE, octets_limit=7))
    run(accounts.add_alias(canonical("sales@example.com"), ALICE))
    new = run(accounts.start_over(ALICE))
    assert new.user_id != old.user_id
    views = run(list_accounts(engine, secrets))
    assert [(view.user_id, view.state, view.octets_limit) for view in views] == [
        (new.user_id, "active", 7),
        (old.user_id, "parked", 7),
    ]
    validities = [
        run(engine.read(lambda txn, one=one: account_rows.read_account(txn, secrets, one))).last_uid_validity
        for one in (old.user_id, new.user_id)
    ]
    assert validities[1] > validities[0]
    target = run(Directory(engine, secrets).find(canonical("sales@example.com")))
    assert target is not None
    assert target.user_id == new.user_id
    assert run(accounts.remove_parked(ALICE)) == 1
    assert rows_of(engine, old.user_id) == {}
    assert rows_of(engine, new.user_id)[Table.ACCT] == 1


def test_removing_leaves_nothing(engine: Engine, accounts: Accounts) -> None:
    bob = run(accounts.create(canonical("bob@example.com")))
    before = rows_of(engine, bob.user_id)
    made = run(accounts.create(ALICE, password=b"x", rounds=1))
    run(accounts.add_alias(canonical("sales@example.com"), ALICE))
    assert run(accounts.remove(ALICE)) == 0
    assert rows_of(engine, made.user_id) == {}
    assert run(list_aliases(engine)) == []
    assert rows_of(engine, bob.user_id) == before
    with pytest.raises(AccountMissing):
        run(accounts.remove(ALICE))
    assert run(accounts.create(ALICE)).user_id != made.user_id


def test_removing_releases_messages_in_slices(engine: Engine, secrets: ServerSecrets, accounts: Accounts) -> None:
    alice, bob = run(accounts.create(ALICE)), run(accounts.create(canonical("bob@example.com")))
    shared, own, count = BlobId(b"s" * 16), BlobId(b"o" * 16), 2 * SLICE_ROWS + 1

    def fill(txn: WriteTxn) -> None:
        ownership.hold(txn, secrets, bob.user_id, Mid(b"b" * 16), shared, 10)
        ownership.hold(txn, secrets, alice.user_id, Mid(b"c" * 16), own, 10)
        ownership.add_copy(txn, secrets, alice.user_id, Mid(b"c" * 16))
        for n in range(count):
            ownership.hold(txn, secrets, alice.user_id, Mid(n.to_bytes(16, "big")), shared, 10)

    run(engine.write(fill))
    assert run(accounts.remove(ALICE)) == count + 1
    assert rows_of(engine, alice.user_id) == {}
    refs, dead = run(engine.read(lambda txn: (dict(txn.scan(Table.REF, b"")), list(txn.scan(Table.DEAD, b"")))))
    assert refs == {shared: encode_count(1)}
    assert [decode_dead_key(key)[1] for key, _ in dead] == [own]


def test_what_was_filed_for_a_removed_user_goes_later(
    engine: Engine, secrets: ServerSecrets, accounts: Accounts
) -> None:
    """A delivery accepted its recipient before he was removed, and is filed after it."""
    alice, bob = run(accounts.create(ALICE)), run(accounts.create(canonical("bob@example.com")))
    run(accounts.remove(ALICE))

    def file(txn: WriteTxn) -> None:
        for user_id in (alice.user_id, bob.user_id):
            ownership.hold(txn, secrets, user_id, Mid(b"m" * 16), BlobId(b"s" * 16), 10)
            txn.put(Table.TAIL, user_id, b"tail")
            txn.put(Table.IN, user_id + bytes(8), b"sealed")

    run(engine.write(file))
    assert run(remove_orphans(engine, secrets, lambda: 1)) == 1
    assert rows_of(engine, alice.user_id) == {}
    assert rows_of(engine, bob.user_id)[Table.IN] == 1
    assert run(remove_orphans(engine, secrets, lambda: 1)) == 0


def test_every_changed_byte_of_a_credential_is_refused(engine: Engine, accounts: Accounts) -> None:
    made = run(accounts.create(ALICE))
    assert made.device_password is not None
    secret = made.device_password.encode()
    with run(accounts.unlock(ALICE, secret)) as unlocked:
        key = made.user_id + unlocked.credential_id.to_bytes(4, "big")
    value = run(engine.read(lambda txn: txn.get(Table.CRED, key)))
    assert value is not None
    for at in range(len(value)):
        changed = value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
        run(engine.write(lambda txn, changed=changed: txn.put(Table.CRED, key, changed)))
        with pytest.raises((SecretRefused, Damaged)):
            run(accounts.unlock(ALICE, secret))


def test_a_public_key_is_checked_again_when_its_row_or_owner_changes(
    engine: Engine, secrets: ServerSecrets, accounts: Accounts
) -> None:
    alice, bob, directory = canonical("alice@example.com"), canonical("bob@example.com"), Directory(engine, secrets)
    ids = [run(accounts.create(address)).user_id for address in (alice, bob)]
    before = run(directory.recipient(alice))
    assert before == run(directory.recipient(alice))
    assert run(directory.recipient(bob)) is not None
    row = run(engine.read(lambda txn: txn.get(Table.PK, ids[0])))
    other = run(engine.read(lambda txn: txn.get(Table.PK, ids[1])))
    assert row is not None
    assert other is not None
    for planted in (other, row[:-1] + bytes([row[-1] ^ 1])):
        run(engine.write(lambda txn, planted=planted: txn.put(Table.PK, ids[0], planted)))  # type: ignore[misc]
        with pytest.raises(Damaged):
            run(directory.recipient(alice))
    run(engine.write(lambda txn: txn.put(Table.PK, ids[0], row)))
    assert run(directory.recipient(alice)) == before


def test_codecs_round_trip(engine: Engine, secrets: ServerSecrets, accounts: Accounts) -> None:
    made = run(accounts.create(ALICE))
    account = run(engine.read(lambda txn: account_rows.read_account(txn, secrets, made.user_id)))
    assert account is not None
    assert decode_account(encode_account(account)) == account
    for _, row in run(engine.read(lambda txn: list(account_rows.credentials_of(txn, made.user_id)))):
        assert decode_credential(encode_credential(row)) == row
    for cut in range(len(encode_account(account))):
        with pytest.raises(Damaged):
            decode_account(encode_account(account)[:cut])
