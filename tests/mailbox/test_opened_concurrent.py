"""Several sessions at once, in two pools as in two processes: nothing is lost, everybody sees the same in the end."""

from pathlib import Path

from mailbox_support import ADDRESS, ALL, House, mail, make_house
from support import lmdb_engine, run, start
from twisted.internet.defer import gatherResults

from certmaild.mailbox.pool import MailboxPool
from certmaild.mailbox.values import SYSTEM_FLAGS, FlagOp, Flags, SystemFlag

BITS = [flag for flag in SystemFlag if flag is not SystemFlag.DELETED]


def test_concurrent_stores_and_arrivals_lose_nothing(tmp_path: Path) -> None:
    engine = lmdb_engine(tmp_path)
    house: House = make_house(tmp_path, engine)
    house.append(*[mail(str(n)) for n in range(20)])
    other_pool = MailboxPool(engine, house.secrets, engine.hub, lambda: house.now[0])
    other = other_pool.open(house.user_id, ADDRESS, house.keys)
    box_id = house.box()
    state = run(other.select(box_id))
    stores = [
        start((house.mailbox, other)[n % 2].store_flags(box_id, ALL, FlagOp.ADD, flags))
        for n, flags in enumerate([*[Flags(bit) for bit in BITS], *[Flags(0, frozenset([f"k{n}"])) for n in range(12)]])
    ]
    house.deliver(*[mail(f"arrival {n}") for n in range(10)])
    run(gatherResults(stores))
    run(house.mailbox.absorb())
    run(other.absorb())
    entries = house.entries()
    assert [entry.uid for entry in entries] == list(range(1, 31))
    assert all(entry.flags & SYSTEM_FLAGS == sum(BITS) for entry in entries[:20])
    assert all(entry.keywords.bit_count() == 12 for entry in entries[:20])
    for mailbox in (house.mailbox, other):
        update = run(mailbox.updates(box_id, state.highest_modseq, state.uid_next))
        assert update is not None and len(update.changed) == 20 and len(update.arrived) == 10
        assert set(update.changed.keywords) == {entry.keywords for entry in entries[:20]}
    other.close()
    house.mailbox.close()
    run(engine.close())
