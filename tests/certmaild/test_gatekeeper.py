"""Log-in: who comes in, what it costs, and that failing tells nothing."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from gatekeeper_support import ALICE, BOB, NOW, PEER, House, Work
from support import run

from certmaild.gatekeeper import PUT_OFF_S, WAITING_PER_NETWORK, InProcessGatekeeper
from certmaild.kdf_pool import KdfPool
from certmaild.keystore import primitives
from certmaild.keystore.errors import PublicKeySwapped
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.login_cache import HARD_S, IDLE_S, KEY_OCTETS, SharedLogins
from certmaild.mailbox.account_lists import list_devices
from certmaild.mailbox.account_rows import count_most_rounds, credentials_of, read_credential
from certmaild.mailbox.accounts import Accounts
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.engine_lmdb import LmdbEngine
from certmaild.mailbox.engine_volatile import VolatileStore
from certmaild.mailbox.errors import StoreUnavailable
from certmaild.mailbox.identifiers import CredentialId
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import SINGLE_PASSWORD_ID, Kind, Role, Scope, State, credential_key
from certmaild.mailbox.ways_in import Limits as WayLimits
from certmaild.mailbox.ways_in import label_of
from certmaild.protocols.interfaces import (
    ClientId,
    Login,
    LogInForbidden,
    LogInRefused,
    LogInUnavailable,
    Service,
    TooManySessions,
)
from certmaild.throttle import NETWORK_RATE, PAIR_RATE, Throttle

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.gatekeeper.stop()
    run(made.engine.close())


@pytest.mark.parametrize("name", ["alice@example.com", "Alice@EXAMPLE.com", "alice", "ALICE"])
@pytest.mark.parametrize("service", list(Service))
def test_a_device_password_costs_no_hashing(house: House, name: str, service: Service) -> None:
    login = house.log_in(name, house.device_password.lower().replace("-", " "), service)
    assert login.user_id == house.alice.user_id
    assert login.address == "alice@example.com"
    assert not login.read_only
    assert house.slow.jobs == house.quick.jobs == 0
    assert house.device_password not in repr(login)
    house.gatekeeper.log_out(login)
    assert login.keys.closed


def test_a_device_password_takes_under_3_ms_of_cpu(house: House) -> None:
    times = []
    for _ in range(20):
        begun = time.process_time()
        login = house.log_in("alice@example.com", house.device_password)
        times.append(time.process_time() - begun)
        house.gatekeeper.log_out(login)
    assert sorted(times)[10] < 0.003


@pytest.mark.parametrize(
    "domains", [("example.com",), ("example.org", "example.com"), ("example.com", "guest.example")]
)
def test_a_bare_name_is_whoever_alone_has_it(house: House, domains: tuple[str, ...]) -> None:
    house.gatekeeper = house.make(domains=domains)
    run(house.accounts.add_alias(canonical("sales@example.com"), ALICE))
    for name in ("alice", "ALICE", "sales", "alice+tag"):
        login = house.log_in(name, house.device_password)
        assert login.address == "alice@example.com"
        house.gatekeeper.log_out(login)
    for name in ("nobody", "bob", ""):
        with pytest.raises(LogInRefused):
            house.log_in(name, house.device_password)


def test_a_bare_name_that_two_have_is_nobodys_and_the_same_persons_is_his(house: House) -> None:
    house.gatekeeper = house.make(domains=("example.com", "example.org"))
    run(house.accounts.add_alias(canonical("alice@example.org"), ALICE))
    assert house.log_in("alice", house.device_password).address == "alice@example.com"
    run(house.accounts.remove_alias(canonical("alice@example.org")))
    run(house.accounts.create(canonical("alice@example.org")))
    with pytest.raises(LogInRefused):
        house.log_in("alice", house.device_password)
    house.log_in("alice@example.com", house.device_password)


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("bob@example.com", "wrong"),
        ("bob@example.com", ""),
        ("alice@example.com", "no password set"),
        ("nobody@example.com", "wrong"),
        ("nobody@example.org", "wrong"),
        ("not an address@@", "wrong"),
        ("", ""),
        ("alice@example.com", "0000-0000-0000-0000-0000-0000-0000-0000"),
        ("nobody@example.com", "0000-0000-0000-0000-0000-0000-0000-0000"),
    ],
)
def test_every_failure_costs_the_same_and_says_the_same(house: House, name: str, password: str) -> None:
    rounds: list[int] = []

    def counted(password: bytes, salt: bytes, count: int) -> bytes:
        rounds.append(count)
        return primitives.password_kdf(password, salt, count)

    with (
        patch("certmaild.keystore.credentials.password_kdf", counted),
        patch("certmaild.login_cache.password_kdf", counted),
        pytest.raises(LogInRefused) as refused,
    ):
        house.log_in(name, password)
    assert str(refused.value) == ""
    assert rounds == [1, 1]
    assert (house.slow.jobs, house.quick.jobs) == (1, 1)


def refused_work(house: House, name: str, password: str) -> int:
    """Rounds that a refused log-in took, as one job of the slow pool."""
    work, jobs = Work(), house.slow.jobs
    with patch("certmaild.keystore.credentials.password_kdf", work), pytest.raises(LogInRefused):
        house.log_in(name, password, peer=f"198.51.100.{jobs}")
    assert house.slow.jobs == jobs + 1
    return work.rounds


NAMES = [
    ("bob", "wrong"),
    ("bob", ""),
    ("carol", "wrong"),
    ("dora", "right but disabled"),
    ("dora", "wrong"),
    ("alice", "no password set"),
    ("nobody", "wrong"),
]


@pytest.mark.parametrize("rounds", [1, 2, 5, 9])
def test_the_time_tells_nobody_who_is_known_however_old_his_password_is(house: House, rounds: int) -> None:
    """Bob's password is stored under 1 round, carol's under 5 and dora's under 2, whatever is configured now."""
    carol, dora = canonical("carol@example.com"), canonical("dora@example.com")
    run(house.accounts.create(carol, password=b"correct horse", rounds=5))
    run(house.accounts.create(dora, password=b"right but disabled", rounds=2))
    run(house.accounts.set_state(dora, State.DISABLED))
    house.gatekeeper = house.make(rounds=rounds)
    assert {refused_work(house, name, password) for name, password in NAMES} == {max(rounds, 5)}


def test_a_password_made_by_another_process_meanwhile_counts_from_its_first_try(house: House) -> None:
    assert refused_work(house, "nobody", "wrong") == 1
    run(house.accounts.create(canonical("carol@example.com"), password=b"correct horse", rounds=7))
    assert [refused_work(house, name, "wrong") for name in ("nobody", "carol", "bob")] == [7, 7, 7]


def test_work_falls_again_once_no_password_needs_it(house: House) -> None:
    with run(house.accounts.unlock(BOB, b"correct horse")) as unlocked:
        run(house.accounts.set_password(unlocked, b"hard horse", rounds=7))
        run(house.accounts.set_password(unlocked, b"easy horse", rounds=2))
    assert refused_work(house, "nobody", "wrong") == 7
    damaged = credential_key(house.alice.user_id, CredentialId(5))
    run(house.engine.write(lambda txn: txn.put(Table.CRED, damaged, b"nonsense")))
    run(house.engine.write(count_most_rounds))
    assert [refused_work(house, name, "wrong") for name in ("nobody", "bob")] == [2, 2]


def test_a_right_password_takes_only_its_own_rounds(house: House) -> None:
    run(house.accounts.create(canonical("carol@example.com"), password=b"correct horse", rounds=7))
    work = Work()
    with patch("certmaild.keystore.credentials.password_kdf", work):
        assert house.log_in("bob", "correct horse").user_id == house.bob.user_id
    assert work.rounds == 1


def test_credentials_move_to_the_newest_pepper_at_log_in(house: House, tmp_path: Path) -> None:
    with run(house.accounts.unlock(BOB, b"correct horse")) as unlocked:
        _, phone = run(house.accounts.add_device(unlocked, "phone"))
    (tmp_path / "secrets" / "pepper-2").write_bytes(os.urandom(32))
    (tmp_path / "secrets" / "pepper-2").chmod(0o600)
    first, house.secrets = house.secrets, ServerSecrets.load(tmp_path / "secrets")
    house.gatekeeper = house.make()

    def stored() -> list[tuple[Kind, int]]:
        run(house.engine.write(lambda txn: None))
        found = run(house.engine.read(lambda txn: list(credentials_of(txn, house.bob.user_id))))
        return sorted((row.head.kind, row.head.pepper_id) for _, row in found)

    assert stored() == [(Kind.PASSWORD, 1), (Kind.DEVICE, 1), (Kind.RECOVERY, 1)]
    by_password, by_phone = house.log_in("bob", "correct horse"), house.log_in("bob", phone)
    assert stored() == [(Kind.PASSWORD, 2), (Kind.DEVICE, 2), (Kind.RECOVERY, 1)]
    assert run(house.gatekeeper.is_valid(by_password))
    assert run(house.gatekeeper.is_valid(by_phone))
    for login in (by_password, by_phone):
        house.gatekeeper.log_out(login)
    # What was written again opens, keeps its label, and only by the pepper it is under now.
    for secret in ("correct horse", phone):
        house.gatekeeper.log_out(house.log_in("bob", secret))
    views = run(list_devices(house.engine, house.secrets, BOB))
    with run(Accounts(house.engine, house.secrets).unlock(BOB, phone.encode())) as unlocked:
        assert "phone" in [label_of(view.row, view.credential_id, unlocked.keys) for view in views]
    house.secrets = first
    house.gatekeeper = house.make()
    for secret in ("correct horse", phone):
        with pytest.raises(LogInUnavailable):
            house.log_in("bob", secret)


def test_a_credential_under_the_newest_pepper_is_not_written_again(house: House) -> None:
    with patch("certmaild.upkeep.account_rows.write_credential") as write:
        house.log_in("alice", house.device_password)
        house.log_in("bob", "correct horse")
        run(house.engine.write(lambda txn: None))
    write.assert_not_called()


def test_a_disabled_account_is_refused_like_a_wrong_password(house: House) -> None:
    for address in (ALICE, BOB):
        run(house.accounts.set_state(address, State.DISABLED))
    for name, password in (("alice", house.device_password), ("bob", "correct horse")):
        before = house.slow.jobs
        with pytest.raises(LogInRefused):
            house.log_in(name, password)
        assert house.slow.jobs == before + 1
    run(house.accounts.set_state(BOB, State.ACTIVE))
    assert house.log_in("bob", "correct horse").user_id == house.bob.user_id


def test_a_recovery_code_opens_devices_and_sends_nothing(house: House) -> None:
    for service in (Service.IMAP, Service.POP3):
        login = house.log_in("bob", house.bob.recovery_code, service)
        assert (login.kind, login.read_only) == (Kind.RECOVERY, False)
        mailbox = run(house.gatekeeper.open_mailbox(login))
        assert [folder.name for folder in run(mailbox.folders())] == []
        mailbox.close()
    with pytest.raises(LogInRefused):
        house.log_in("bob", house.bob.recovery_code, Service.SUBMISSION)


def test_the_cache_saves_hashing_until_idle_or_old(house: House) -> None:
    for _ in range(3):
        house.gatekeeper.log_out(house.log_in("bob", "correct horse"))
    assert house.slow.jobs == 1
    house.clock.advance(IDLE_S + 1)
    house.gatekeeper.log_out(house.log_in("bob", "correct horse"))
    assert house.slow.jobs == 2
    for _ in range(HARD_S // (IDLE_S - 1) + 1):
        house.clock.advance(IDLE_S - 1)
        house.gatekeeper.log_out(house.log_in("bob", "correct horse"))
    assert house.slow.jobs == 3
    with pytest.raises(LogInRefused):
        house.log_in("bob", "wrong horse")


def test_keys_leave_memory_when_the_cache_entry_is_too_old(house: House) -> None:
    house.gatekeeper.start()
    login = house.log_in("bob", "correct horse")
    house.gatekeeper.log_out(login)
    assert not login.keys.closed
    house.clock.pump([60] * (IDLE_S // 60 + 2))
    assert login.keys.closed


REVOKE = """
import sys
from pathlib import Path
from certmaild.driving import Driver
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.accounts import Accounts
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.engine_lmdb import LmdbEngine
from certmaild.mailbox.engine_volatile import VolatileStore
from certmaild.mailbox.layout_accounts import SINGLE_PASSWORD_ID
place, driver = Path(sys.argv[1]), Driver()
secrets = ServerSecrets.load(place / "secrets")
engine = LmdbEngine(place / "store", driver, secrets, floor_octets=0)
assert driver.run(Accounts(engine, secrets).revoke(canonical("bob@example.com"), SINGLE_PASSWORD_ID))
"""


def test_a_change_by_another_process_counts_at_once(house: House, tmp_path: Path) -> None:
    """The other process stands for the command line beside the running server; the password is cached here."""
    login = house.log_in("bob", "correct horse")
    assert run(house.gatekeeper.is_valid(login))
    subprocess.run(
        [sys.executable, "-c", REVOKE, str(tmp_path)], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert not run(house.gatekeeper.is_valid(login))
    with pytest.raises(LogInRefused):
        house.log_in("bob", "correct horse")
    house.gatekeeper.log_out(login)
    assert login.keys.closed


def test_a_changed_password_ends_sessions_of_the_old_one_and_no_others(house: House) -> None:
    with run(house.accounts.unlock(BOB, b"correct horse")) as unlocked:
        _, text = run(house.accounts.add_device(unlocked, "phone"))
        by_password, by_device = house.log_in("bob", "correct horse"), house.log_in("bob", text)
        run(house.accounts.set_password(unlocked, b"new horse", rounds=1))
    assert not run(house.gatekeeper.is_valid(by_password))
    assert run(house.gatekeeper.is_valid(by_device))
    with pytest.raises(LogInRefused):
        house.log_in("bob", "correct horse")
    assert house.log_in("bob", "new horse").user_id == house.bob.user_id


def test_session_limits_and_logging_out_twice(house: House) -> None:
    first, second = (house.log_in("alice", house.device_password) for _ in range(2))
    with pytest.raises(TooManySessions):
        house.log_in("alice", house.device_password)
    house.gatekeeper.log_out(first)
    house.gatekeeper.log_out(first)
    assert not second.keys.closed
    third = house.log_in("alice", house.device_password)
    with pytest.raises(TooManySessions):
        house.log_in("alice", house.device_password)
    for login in (second, third):
        house.gatekeeper.log_out(login)
    assert second.keys.closed
    assert house.gatekeeper.sessions == 0


def test_sessions_of_a_mailbox_at_and_past_the_limit(house: House) -> None:
    """Three in all, whatever they log in with; two by each."""
    logins = [house.log_in("bob", "correct horse") for _ in range(2)]
    with pytest.raises(TooManySessions):
        house.log_in("bob", "correct horse")
    with run(house.accounts.unlock(BOB, b"correct horse")) as unlocked:
        _, phone = run(house.accounts.add_device(unlocked, "phone"))
    logins.append(house.log_in("bob", phone))
    with pytest.raises(TooManySessions):
        house.log_in("bob", phone)
    house.gatekeeper.log_out(logins.pop(0))
    logins.append(house.log_in("bob", phone))
    for login in logins:
        house.gatekeeper.log_out(login)


def test_wrong_passwords_wait_and_a_right_one_from_elsewhere_does_not(house: House) -> None:
    for _ in range(5):
        with pytest.raises(LogInRefused):
            house.log_in("bob", "wrong")
    before = house.slow.jobs
    waiting = house.begin("bob", "correct horse")
    assert not waiting.called
    assert house.log_in("bob", "correct horse", peer="198.51.100.7").user_id == house.bob.user_id
    assert house.log_in("alice", house.device_password).user_id == house.alice.user_id
    house.clock.advance(1)
    assert waiting.called
    assert run(waiting).user_id == house.bob.user_id
    assert house.slow.jobs == before + 1


def test_a_flood_from_one_address_is_answered_slowly(house: House) -> None:
    """Else it would come back at once, with one more TLS handshake."""
    waiting = [house.begin(f"nobody{n}", "wrong") for n in range(NETWORK_RATE.burst + WAITING_PER_NETWORK)]
    assert [one.called for one in waiting] == [True] * NETWORK_RATE.burst + [False] * WAITING_PER_NETWORK
    put_off = house.begin("bob", "correct horse")
    assert house.log_in("alice", house.device_password).user_id == house.alice.user_id
    assert house.log_in("bob", "correct horse", peer="198.51.100.7").user_id == house.bob.user_id
    house.clock.advance(PUT_OFF_S - 0.1)
    assert not put_off.called
    house.clock.advance(0.1)
    with pytest.raises(LogInUnavailable):
        run(put_off)
    for one in waiting:
        one.addErrback(lambda failure: None)


def test_who_waits_does_not_hold_up_the_end(house: House) -> None:
    waiting = [house.begin("bob", "wrong") for _ in range(8)]
    late = [one for one in waiting if not one.called]
    assert late
    house.gatekeeper.let_nobody_wait()
    for one in [*late, house.begin("bob", "wrong")]:
        with pytest.raises(LogInUnavailable):
            run(one)
    assert not [call for call in house.clock.getDelayedCalls() if call.time > house.clock.seconds() + 1]
    for one in waiting:
        one.addErrback(lambda _: None)


def test_a_fault_of_the_store_is_no_wrong_password(house: House) -> None:
    with (
        patch.object(LmdbEngine, "read", side_effect=StoreUnavailable),
        pytest.raises(LogInUnavailable) as unavailable,
    ):
        house.log_in("alice", house.device_password)
    assert "store" not in unavailable.value.public_text.lower()


def test_a_full_queue_is_no_wrong_password(house: House) -> None:
    house.gatekeeper._slow = KdfPool(house.slow, places=0)
    put_off = house.begin("bob", "correct horse")
    assert not put_off.called
    house.clock.advance(PUT_OFF_S)
    with pytest.raises(LogInUnavailable):
        run(put_off)
    assert house.log_in("alice", house.device_password).user_id == house.alice.user_id


def test_a_swapped_public_key_is_an_alarm(house: House) -> None:
    def swap(txn: Any) -> None:
        txn.put(Table.PK, house.alice.user_id, txn.get(Table.PK, house.bob.user_id))

    run(house.engine.write(swap))
    with (
        patch("certmaild.gatekeeper.log") as log,
        pytest.raises(LogInUnavailable),
    ):
        house.log_in("alice", house.device_password)
    log.critical.assert_called_once()
    with pytest.raises(PublicKeySwapped):
        run(house.accounts.unlock(ALICE, house.device_password.encode()))


def test_a_password_is_stretched_anew_when_the_rounds_moved(house: House) -> None:
    house.gatekeeper = house.make(rounds=3)
    login = house.log_in("bob", "correct horse")

    def stored() -> Any:
        return run(house.engine.read(lambda txn: read_credential(txn, house.bob.user_id, SINGLE_PASSWORD_ID)))

    run(house.engine.write(lambda txn: None))
    assert stored().head.rounds == 3
    assert run(house.gatekeeper.is_valid(login))
    house.gatekeeper.log_out(login)
    house.gatekeeper.log_out(house.log_in("bob", "correct horse"))
    assert stored().head.rounds == 3


def test_the_day_of_use_is_written_once_a_day(house: House) -> None:
    def last_used() -> Any:
        run(house.engine.write(lambda txn: None))
        return {one.kind: one.last_used for one in run(list_devices(house.engine, house.secrets, ALICE))}["device"]

    assert last_used() is None
    house.log_in("alice", house.device_password)
    first = last_used()
    assert first.isoformat() == "2027-01-15"
    with patch("certmaild.upkeep.account_rows.write_day") as write_day:
        house.log_in("alice", house.device_password)
        run(house.engine.write(lambda txn: None))
        write_day.assert_not_called()


def test_the_mailbox_opens(house: House) -> None:
    login = house.log_in("alice", house.device_password)
    mailbox = run(house.gatekeeper.open_mailbox(login))
    names = [folder.name for folder in run(mailbox.folders())]
    assert names[0] == "INBOX"
    assert {"Drafts", "Sent", "Junk", "Trash", "Archive"} <= set(names)
    mailbox.close()
    house.gatekeeper.log_out(login)
    run(house.engine.write(lambda txn: None))


def test_one_users_device_password_opens_nobody_elses_mailbox(house: House) -> None:
    with pytest.raises(LogInRefused):
        house.log_in("bob", house.device_password)


@pytest.fixture
def volatile(house: House, tmp_path: Path) -> Iterator[VolatileStore]:
    """What two workers share; each has a gatekeeper of its own."""
    store = VolatileStore(tmp_path / "volatile", house.clock.seconds, slot=1, slots=2)
    yield store
    store.close()


def workers(house: House, volatile: VolatileStore, *keys: bytes) -> list[InProcessGatekeeper]:
    return [
        house.make(
            tally=volatile,
            throttle=Throttle(house.clock.seconds, volatile.levels),
            shared_logins=SharedLogins(volatile, key, house.clock.seconds),
        )
        for key in keys
    ]


def jobs_of(house: House, gatekeeper: InProcessGatekeeper, password: str) -> int:
    """How many slow hashes a log-in of bob at this worker takes; he logs out again."""
    house.gatekeeper, before = gatekeeper, house.slow.jobs
    with contextlib.suppress(LogInRefused):
        gatekeeper.log_out(house.log_in("bob", password))
    return house.slow.jobs - before


def test_a_password_proven_at_one_worker_is_not_stretched_at_another(
    house: House, volatile: VolatileStore, tmp_path: Path
) -> None:
    one, two, stranger = workers(house, volatile, b"k" * KEY_OCTETS, b"k" * KEY_OCTETS, b"s" * KEY_OCTETS)
    assert jobs_of(house, one, "correct horse") == 1
    assert jobs_of(house, two, "correct horse") == 0
    assert jobs_of(house, stranger, "correct horse") == 1, "another key opens nothing"
    assert jobs_of(house, two, "wrong") == 1
    two.stop()
    assert volatile.forget_sealed(house.clock.seconds() + 1) == 2
    assert jobs_of(house, two, "correct horse") == 1
    for gatekeeper in (one, stranger):
        gatekeeper.stop()


def test_a_shared_password_counts_only_as_long_as_it_is_the_password(house: House, volatile: VolatileStore) -> None:
    one, two = workers(house, volatile, b"k" * KEY_OCTETS, b"k" * KEY_OCTETS)
    assert jobs_of(house, one, "correct horse") == 1
    with run(house.accounts.unlock(BOB, b"correct horse")) as unlocked:
        run(house.accounts.set_password(unlocked, b"other horse", rounds=1))
    house.gatekeeper = two
    with pytest.raises(LogInRefused):
        house.log_in("bob", "correct horse")
    house.clock.advance(HARD_S + 1)
    assert jobs_of(house, two, "other horse") == 1
    for gatekeeper in (one, two):
        gatekeeper.stop()


def test_workers_count_sessions_and_guesses_together(house: House, volatile: VolatileStore) -> None:
    one, two = workers(house, volatile, b"k" * KEY_OCTETS, b"k" * KEY_OCTETS)
    logins = []
    for gatekeeper in (one, two):
        house.gatekeeper = gatekeeper
        logins.append(house.log_in("alice", house.device_password))
    with pytest.raises(TooManySessions):
        house.log_in("alice", house.device_password)
    one.log_out(logins[0])
    house.log_in("alice", house.device_password)
    for n in range(PAIR_RATE.burst):
        assert jobs_of(house, (one, two)[n % 2], "wrong") == 1
    house.gatekeeper = one
    waiting = house.begin("bob", "correct horse")
    assert not waiting.called
    house.clock.advance(1)
    assert waiting.called
    for gatekeeper in (one, two):
        gatekeeper.stop()


class Watch:
    """Forbids one network, and keeps what it heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Service, str]] = []

    async def entered(self, login: Login, service: Service, peer: str) -> None:
        self.heard.append((login.address, service, peer))
        if peer.startswith("198.51.100."):
            raise LogInForbidden("not from there")

    async def told(self, login: Login, client_id: ClientId, peer: str) -> None:
        raise AssertionError("the protocol's business")


def test_a_watch_hears_of_who_came_in_and_may_forbid_it(house: House) -> None:
    watch = Watch()
    house.gatekeeper = house.make(watch=watch)
    login = house.log_in("alice", house.device_password, Service.POP3)
    with pytest.raises(LogInForbidden, match="not from there"):
        house.log_in("alice", house.device_password, peer="198.51.100.7")
    with pytest.raises(LogInRefused):
        house.log_in("alice", "wrong")
    assert watch.heard == [
        ("alice@example.com", Service.POP3, PEER),
        ("alice@example.com", Service.IMAP, "198.51.100.7"),
    ]
    assert house.gatekeeper.sessions == 1, "who is forbidden keeps no place"
    house.gatekeeper.log_out(login)
    assert login.keys.closed


def test_a_program_only_submits_whatever_its_passwords_open(house: House) -> None:
    login = house.log_in("alice", house.device_password)
    sending = house.log_in("alice", house.device_password, Service.SUBMISSION)
    assert run(house.gatekeeper.is_valid(login))
    run(house.accounts.change(ALICE, lambda account: replace(account, role=Role.APP)))
    for service in (Service.IMAP, Service.POP3):
        with pytest.raises(LogInRefused):
            house.log_in("alice", house.device_password, service)
    assert not run(house.gatekeeper.is_valid(login))
    assert run(house.gatekeeper.is_valid(sending))


def test_limits_of_a_device_hold_and_its_sessions_end_with_it(house: House) -> None:
    with run(house.accounts.unlock(ALICE, house.device_password.encode())) as unlocked:
        limits = WayLimits(Scope.SUBMIT, ("192.0.2.0/24",), int(NOW) + 100)
        _, text = run(house.accounts.add_device(unlocked, "desk", limits))
    with pytest.raises(LogInRefused):
        house.log_in("alice", text)
    with pytest.raises(LogInRefused):
        house.log_in("alice", text, Service.SUBMISSION, "198.51.100.1")
    login = house.log_in("alice", text, Service.SUBMISSION)
    changed: list[Change] = []
    house.engine.hub.watch(login.user_id, changed.append)
    house.gatekeeper.start()
    house.clock.advance(60)
    assert changed == []
    house.clock.advance(60)
    assert changed == [Change(ChangeKind.ACCOUNT, login.user_id)]
    assert not run(house.gatekeeper.is_valid(login))
    with pytest.raises(LogInRefused):
        house.log_in("alice", text, Service.SUBMISSION)
