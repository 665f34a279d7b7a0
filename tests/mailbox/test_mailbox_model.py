"""A stateful model: folders of the open mailbox against plain dictionaries, on memory and on LMDB."""

import itertools
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from mailbox_support import ALL, House, mail, make_house
from support import lmdb_engine, memory_engine, run

from certmaild.mailbox.pages import PAGE_ROWS
from certmaild.mailbox.values import SYSTEM_FLAGS, FlagOp, Flags, SystemFlag

BOXES = ("INBOX", "Archive", "Trash")
KEYWORDS = ("one", "two", "three")
flag_values = st.builds(Flags, st.sampled_from([0, 1, 8, 9, 20]), st.frozensets(st.sampled_from(KEYWORDS), max_size=2))
uid_sets = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 20)), min_size=1, max_size=3).map(
    lambda runs: [range(first, first + count) for first, count in runs]
)
Message = tuple[bytes, int, frozenset[str]]


class Mailbox(RuleBasedStateMachine):
    on_disk = False

    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        path = Path(self.directory.name)
        engine: Any = lmdb_engine(path) if self.on_disk else memory_engine()
        self.house: House = make_house(path, engine)
        self.model: dict[str, dict[int, Message]] = {box: {} for box in BOXES}
        self.next = dict.fromkeys(BOXES, 1)
        self.told = {box: run(self.house.mailbox.select(self.house.box(box))) for box in BOXES}
        self.views: dict[str, dict[int, tuple[int, frozenset[str]]]] = {box: {} for box in BOXES}
        self.count = itertools.count()

    def teardown(self) -> None:
        if hasattr(self, "house"):
            self.house.mailbox.close()
            run(self.house.engine.close())
            self.directory.cleanup()

    def put(self, box: str, message: Message) -> int:
        uid = self.next[box]
        self.model[box][uid] = message
        self.next[box] += 1
        return uid

    def named(self, box: str, uids: list[range]) -> list[int]:
        return [uid for uid in sorted(self.model[box]) if any(uid in run_ for run_ in uids)]

    @rule(box=st.sampled_from(BOXES), flags=flag_values, count=st.integers(1, 4))
    def append(self, box: str, flags: Flags, count: int) -> None:
        uids = self.house.append(*[mail(str(next(self.count))) for _ in range(count)], box=box, flags=flags)
        mids = {entry.uid: entry.mid for entry in self.house.entries(box)}
        assert list(uids) == [self.put(box, (mids[uid], flags.system, flags.keywords)) for uid in uids]

    @rule(count=st.integers(1, 3))
    def arrive(self, count: int) -> None:
        for mid in self.house.deliver(*[mail(str(next(self.count))) for _ in range(count)]):
            self.put("INBOX", (mid, 0, frozenset()))
        run(self.house.mailbox.absorb())

    @rule(box=st.sampled_from(BOXES), uids=uid_sets, op=st.sampled_from(FlagOp), flags=flag_values)
    def store(self, box: str, uids: list[range], op: FlagOp, flags: Flags) -> None:
        result = run(self.house.mailbox.store_flags(self.house.box(box), uids, op, flags))
        assert list(result.entries.uids) == self.named(box, uids)
        for uid in self.named(box, uids):
            mid, system, keywords = self.model[box][uid]
            if op is FlagOp.ADD:
                after = (mid, system | flags.system, keywords | flags.keywords)
            elif op is FlagOp.REMOVE:
                after = (mid, system & ~flags.system, keywords - flags.keywords)
            else:
                after = (mid, flags.system, flags.keywords)
            assert (uid in result.changed) == (after != self.model[box][uid])
            self.model[box][uid] = after

    @rule(box=st.sampled_from(BOXES), to=st.sampled_from(BOXES), uids=uid_sets, moving=st.booleans())
    def copy_or_move(self, box: str, to: str, uids: list[range], moving: bool) -> None:
        mailbox = self.house.mailbox
        work = mailbox.move if moving else mailbox.copy
        result = run(work(self.house.box(box), uids, self.house.box(to)))
        source = self.named(box, uids)
        assert list(result.source_uids) == source
        messages = [self.model[box][uid] for uid in source]
        if moving:
            for uid in source:
                del self.model[box][uid]
        assert list(result.new_uids) == [self.put(to, message) for message in messages]

    @rule(box=st.sampled_from(BOXES), uids=st.none() | uid_sets)
    def expunge(self, box: str, uids: list[range] | None) -> None:
        result = run(self.house.mailbox.expunge(self.house.box(box), uids))
        gone = [uid for uid in self.named(box, list(uids or ALL)) if self.model[box][uid][1] & SystemFlag.DELETED]
        assert list(result.uids) == gone
        for uid in gone:
            del self.model[box][uid]

    @rule()
    def reopen(self) -> None:
        self.house.reopen()

    @rule(box=st.sampled_from(BOXES))
    def catch_up(self, box: str) -> None:
        """A session that applies what it is told sees what the folder holds."""
        told, view = self.told[box], self.views[box]
        update = run(self.house.mailbox.updates(self.house.box(box), told.highest_modseq, told.uid_next))
        if update is not None:
            for run_ in update.expunged:
                for uid in [uid for uid in view if uid in run_]:
                    del view[uid]
            for block in (update.changed, update.arrived):
                for entry in block:
                    names = frozenset(k for n, k in enumerate(update.keywords) if entry.keywords >> n & 1)
                    view[entry.uid] = (entry.flags & SYSTEM_FLAGS, names)
        self.told[box] = run(self.house.mailbox.select(self.house.box(box)))
        assert view == {uid: message[1:] for uid, message in self.model[box].items()}

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "house"):
            return
        keywords = run(self.house.mailbox.folders()).keywords

        def names(bits: int) -> frozenset[str]:
            return frozenset(name for n, name in enumerate(keywords) if bits >> n & 1)

        for box, model in self.model.items():
            seen = {
                e.uid: (
                    e.mid,
                    e.flags & SYSTEM_FLAGS,
                    frozenset(k for n, k in enumerate(keywords) if e.keywords >> n & 1),
                )
                for e in self.house.entries(box)
            }
            assert seen == model
            status = run(self.house.mailbox.status(self.house.box(box)))
            assert (status.messages, status.uid_next) == (len(model), self.next[box])
            assert status.unseen == sum(not message[1] & 1 for message in model.values())
            assert status.deleted == sum(bool(message[1] & 8) for message in model.values())
        entries = sum(map(len, self.model.values()))
        assert run(self.house.mailbox.quota()).messages == entries


class MailboxOnDisk(Mailbox):
    on_disk = True


@pytest.mark.parametrize(("machine", "examples"), [(Mailbox, 60), (MailboxOnDisk, 10)])
def test_folders_behave_as_dictionaries(machine: type[Mailbox], examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of four entries and slices of two pages, so that small folders have many."""
    from certmaild.mailbox import messages, pages

    assert PAGE_ROWS == 256
    monkeypatch.setattr(pages, "PAGE_ROWS", 4)
    monkeypatch.setattr(pages, "GONE_ROWS_KEPT", 6)
    monkeypatch.setattr(messages, "SLICE_PAGES", 2)
    monkeypatch.setattr(messages, "OWNED_PAGES", 2)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
