"""Absorbing arrivals: order, targets, the chain, races, orders, alarms."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mailbox_support import PREFIX, House, mail, make_house
from support import run
from twisted.internet.task import Clock

from certmaild.mailbox.absorb import LARGEST_SLICE, RETRY_S, Absorber
from certmaild.mailbox.arrivals import queue_order
from certmaild.mailbox.engine_volatile import VolatileStore
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.identifiers import Mid
from certmaild.mailbox.layout import Table
from certmaild.mailbox.pool import MailboxPool
from certmaild.mailbox.text_keeper import GROWTH_S
from certmaild.mailbox.values import SERVER_COPY, SpecialUse, SystemFlag

ROOT = Path(__file__).parents[2]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return make_house(tmp_path)


def asleep(house: House) -> None:
    """Close the mailbox, so that arrivals wait."""
    house.mailbox.close()


def awake(house: House) -> None:
    house.pool = MailboxPool(house.engine, house.secrets, house.engine.hub, lambda: house.now[0])
    house.mailbox = house.pool.open(house.user_id, "joe@example.com", house.keys)


def test_an_arrival_is_absorbed_at_once_while_open(house: House) -> None:
    octets = mail("hi")
    (mid,) = house.deliver(octets)
    (entry,) = house.entries()
    assert (entry.mid, entry.size, entry.flags) == (mid, len(PREFIX) + len(octets), 0)
    card = run(house.mailbox.card(entry))
    assert card is not None and card.prefix == PREFIX and card.reverse_path == b"a@b"
    content = house.mailbox.content(card)
    assert content.prefix == len(PREFIX) and run(content.whole()) == PREFIX + octets
    assert run(content.read(10, len(PREFIX))) == (PREFIX + octets)[10 : 10 + len(PREFIX)]
    assert not house.rows([Table.IN]) and run(house.mailbox.quota()).messages == 1


def test_what_waited_is_absorbed_in_order_of_arrival(house: House) -> None:
    asleep(house)
    mids = house.deliver(*[mail(str(n)) for n in range(150)])
    assert len(house.rows([Table.IN])) == 150
    awake(house)
    assert [entry.mid for entry in house.entries()] == mids
    assert [entry.uid for entry in house.entries()] == list(range(1, 151))


def test_arrivals_go_where_their_card_says(house: House) -> None:
    house.deliver(mail(), special_use=SpecialUse.SENT, flags=SystemFlag.SEEN)
    (entry,) = house.entries("Sent")
    assert entry.flags == SystemFlag.SEEN | SERVER_COPY and house.entries() == []
    run(house.mailbox.rename_folder("Sent", "Gesendet"))
    house.deliver(mail(), special_use=SpecialUse.SENT)
    assert len(house.entries("Gesendet")) == 2
    house.deliver(mail(), special_use=SpecialUse.FLAGGED)
    assert len(house.entries()) == 1


def test_a_lost_race_is_discarded(house: House) -> None:
    from certmaild.mailbox.absorb import open_batch, write_batch

    asleep(house)
    house.deliver(mail("1"), mail("2"))
    reach = house.mailbox._reach
    first = run(house.engine.read(lambda txn: open_batch(txn, reach, 64)))
    second = run(house.engine.read(lambda txn: open_batch(txn, reach, 64)))
    assert first is not None and second is not None
    assert run(house.engine.write(lambda txn: write_batch(txn, reach, first, 1)))
    before = house.rows()
    assert not run(house.engine.write(lambda txn: write_batch(txn, reach, second, 1)))
    assert house.rows() == before
    awake(house)
    assert len(house.entries()) == 2


def test_time_is_limited(house: House) -> None:
    asleep(house)
    house.deliver(*[mail(str(n)) for n in range(70)])
    taken = run(Absorber(house.mailbox._reach).absorb(at_most_s=0))
    assert 64 <= taken < 70 or taken == 64
    assert run(Absorber(house.mailbox._reach).absorb()) == 6
    assert LARGEST_SLICE >= 64


def alarm(house: House) -> None:
    """The queue is refused; what was absorbed stays readable."""
    absorber = Absorber(house.mailbox._reach)
    with pytest.raises(Damaged):
        run(absorber.absorb())
    assert absorber.alarm is not None
    assert run(absorber.absorb()) == 0


def test_a_gap_is_an_alarm(house: House) -> None:
    house.deliver(mail("0"))
    asleep(house)
    house.deliver(mail("1"), mail("2"))
    (_, first), *_ = sorted(house.rows([Table.IN]))
    run(house.engine.write(lambda txn: txn.delete(Table.IN, first)))
    alarm(house)
    awake(house)
    assert len(house.entries()) == 1


def test_a_resurrected_arrival_is_an_alarm(house: House) -> None:
    asleep(house)
    house.deliver(mail("1"))
    ((place, value),) = house.rows([Table.IN]).items()
    awake(house)
    asleep(house)
    house.put(*place, value)
    alarm(house)


def test_swapped_arrivals_are_an_alarm(house: House) -> None:
    asleep(house)
    house.deliver(mail("1"), mail("2"))
    (one, a), (two, b) = sorted(house.rows([Table.IN]).items())
    house.put(*one, b)
    house.put(*two, a)
    alarm(house)


def test_an_order_expunges_a_message_wherever_it_lies(house: House) -> None:
    (mid, _) = house.deliver(mail("take back"), mail("stay"))
    run(house.mailbox.copy(house.box(), [range(1, 2)], house.box("Archive")))
    run(house.engine.write(lambda txn: queue_order(txn, house.secrets, house.user_id, Mid(mid))))
    assert house.entries("Archive") == [] and [entry.uid for entry in house.entries()] == [2]
    assert run(house.mailbox.quota()).messages == 1
    assert len(house.rows([Table.OWN])) == 1


class Taken:
    """Another process has every lease."""

    asked = 0

    def take(self, name: bytes, seconds: float) -> bool:
        self.asked += 1
        return False

    def give_back(self, name: bytes) -> None:
        pass


def test_leases_keep_other_processes_from_the_same_work(house: House) -> None:
    asleep(house)
    house.deliver(mail())
    leases = Taken()
    pool = MailboxPool(house.engine, house.secrets, house.engine.hub, lambda: house.now[0], leases=leases)
    opened = pool.open(house.user_id, "joe@example.com", house.keys)
    assert leases.asked == 1 and len(house.rows([Table.IN])) == 1
    assert run(opened.absorb()) == 1
    opened.close()


HOLDER = """
import os, signal, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from certmaild.mailbox.engine_volatile import VolatileStore
assert VolatileStore(Path(sys.argv[1]), lambda: 0.0, slot=1).take(bytes.fromhex(sys.argv[2]), 10)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_lease_of_a_killed_process_is_taken_over_when_it_runs_out(house: House, tmp_path: Path) -> None:
    asleep(house)
    clock = Clock()
    leases = VolatileStore(tmp_path / "volatile", clock.seconds)
    words = [sys.executable, "-P", "-c", HOLDER.format(root=str(ROOT)), str(tmp_path / "volatile")]
    killed = subprocess.run([*words, (b"absorb" + house.user_id).hex()], cwd=ROOT / "tests", check=False)
    assert killed.returncode == -signal.SIGKILL
    pool = MailboxPool(
        house.engine, house.secrets, house.engine.hub, clock.seconds, leases=leases, call_later=clock.callLater
    )
    opened = pool.open(house.user_id, "joe@example.com", house.keys)
    assert not clock.getDelayedCalls()
    for number in range(3):
        house.deliver(mail(str(number)))
    assert len(clock.getDelayedCalls()) == 1
    while clock.seconds() < 10 - RETRY_S:
        clock.advance(RETRY_S)
        assert len(house.rows([Table.IN])) == 3
    clock.advance(RETRY_S)
    assert not house.rows([Table.IN])
    clock.advance(GROWTH_S)
    assert not clock.getDelayedCalls()
    opened.close()
    leases.close()


def test_the_lease_of_a_killed_process_is_free_as_soon_as_it_is_given_back(house: House, tmp_path: Path) -> None:
    """What the supervisor does for a dead worker, and the ``look`` it then sends to the others."""
    asleep(house)
    clock = Clock()
    leases = VolatileStore(tmp_path / "volatile", clock.seconds)
    words = [sys.executable, "-P", "-c", HOLDER.format(root=str(ROOT)), str(tmp_path / "volatile")]
    subprocess.run([*words, (b"absorb" + house.user_id).hex()], cwd=ROOT / "tests", check=False)
    pool = MailboxPool(
        house.engine, house.secrets, house.engine.hub, clock.seconds, leases=leases, call_later=clock.callLater
    )
    opened = pool.open(house.user_id, "joe@example.com", house.keys)
    house.deliver(mail())
    assert len(house.rows([Table.IN])) == 1
    leases.give_back_all(1)
    house.engine.hub.deliver_everything()
    assert not house.rows([Table.IN])
    opened.close()
    leases.close()


def test_nobody_asks_again_for_a_lease_once_the_other_has_absorbed(house: House) -> None:
    asleep(house)
    clock, leases = Clock(), Taken()
    pool = MailboxPool(
        house.engine, house.secrets, house.engine.hub, clock.seconds, leases=leases, call_later=clock.callLater
    )
    opened = pool.open(house.user_id, "joe@example.com", house.keys)
    house.deliver(mail())
    run(Absorber(house.mailbox._reach).absorb())
    clock.advance(RETRY_S)
    assert not clock.getDelayedCalls() and leases.asked == 1
    house.deliver(mail())
    opened.close()
    clock.advance(RETRY_S)
    assert not clock.getDelayedCalls() and len(house.rows([Table.IN])) == 1


def test_sessions_share_one_mailbox(house: House) -> None:
    again = house.pool.open(house.user_id, "joe@example.com", house.keys)
    assert again is house.mailbox and len(house.pool) == 1
    again.close()
    house.deliver(mail())
    assert len(house.entries()) == 1
    house.mailbox.close()
    assert len(house.pool) == 0
    house.keys.close()
    assert house.keys.closed
