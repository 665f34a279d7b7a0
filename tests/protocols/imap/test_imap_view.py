"""A session's own view of sequence numbers."""

from array import array

from hypothesis import given
from hypothesis import strategies as st

from certmaild.mailbox.identifiers import BoxId
from certmaild.mailbox.values import EntryBlock, FolderState, FolderUpdate
from certmaild.protocols.imap.flags import format_flags, format_known_flags
from certmaild.protocols.imap.view import FOLDED_FROM, FOLDED_RUNS, SelectedView, runs_of


def make(uids: list[int], recent: range = range(0)) -> SelectedView:
    state = FolderState(BoxId(b"b" * 16), 7, 100, 5, array("I", uids), recent, ("$Work",), 0, None)
    return SelectedView("INBOX", state, read_only=False)


def update(*, gone: tuple[range, ...] = (), new: tuple[int, ...] = (), recent: range = range(0)) -> FolderUpdate:
    count = len(new)
    arrived = EntryBlock(
        array("I", new),
        bytes(16 * count),
        bytes(32 * count),
        array("H", [0] * count),
        *(array("Q", [0] * count) for _ in range(5)),
    )
    return FolderUpdate(EntryBlock(), arrived, gone, recent, 200, 9, 0, ("$Work",))


def test_numbers_and_uids() -> None:
    view = make([2, 5, 9])
    assert [view.number(uid) for uid in (1, 2, 5, 6, 9, 10)] == [None, 1, 2, None, 3, None]
    assert view.largest_uid == 9
    assert make([]).largest_uid == 0


def test_expunges_wait_to_be_told() -> None:
    view = make([2, 5, 9, 12])
    assert view.take(update(gone=(range(1, 6), range(12, 13)), new=(150,), recent=range(150, 151)))
    assert len(view) == 5
    assert view.is_expunged(5)
    assert view.number(5) == 2
    assert view.has_expunged
    assert view.release_expunged() == ([1, 1, 2], [2, 5, 12])
    assert list(view.uids) == [9, 150]
    assert not view.has_expunged
    assert view.release_expunged() == ([], [])
    assert view.is_recent(150)
    assert view.recent_count == 1
    assert not view.take(update())


def test_own_changes_are_not_told_again() -> None:
    view = make([2])
    view.note_own_change(2, 8)
    assert view.knows(2, 8)
    assert not view.knows(2, 9)
    view.take(update())
    assert not view.knows(2, 8)


@given(st.sets(st.integers(1, 60)), st.sets(st.integers(1, 60)))
def test_expunge_numbers_replayed_by_a_client_give_the_same_view(held: set[int], gone: set[int]) -> None:
    view = make(sorted(held))
    client = sorted(held)
    view.take(update(gone=tuple(range(uid, uid + 1) for uid in sorted(gone))))
    numbers, uids = view.release_expunged()
    assert [client.pop(number - 1) for number in numbers] == uids
    assert client == list(view.uids) == sorted(held - gone)


def test_flags() -> None:
    assert format_flags(0, 0, ()) == b"()"
    assert format_flags(1 | 8 | 0x4000, 0b101, ("$A", "$B", "$C"), recent=True) == rb"(\Deleted \Seen $A $C \Recent)"
    assert format_flags(0, 1, ("$A",)) == b"($A)"
    assert format_flags(0, 0, (), recent=True) == rb"(\Recent)"
    assert format_known_flags(("$A", "")) == rb"(\Answered \Flagged \Deleted \Seen \Draft $A)"
    assert format_known_flags((), any_more=True) == rb"(\Answered \Flagged \Deleted \Seen \Draft \*)"


# Folding


@given(st.sets(st.integers(1, 60)) | st.sets(st.integers(2**32 - 40, 2**32 - 1)))
def test_runs_say_the_same(uids: set[int]) -> None:
    ordered = array("I", sorted(uids))
    runs = runs_of(ordered, at_most=100)
    assert runs is not None
    assert [uid for first, end in zip(runs[::2], runs[1::2], strict=True) for uid in range(first, end)] == list(ordered)
    count = len(runs) // 2
    assert count == sum(uid - 1 not in uids for uid in uids)
    assert runs_of(ordered, at_most=count) == runs
    assert not count or runs_of(ordered, at_most=count - 1) is None


def test_a_folded_view_is_small_and_knows_the_same() -> None:
    uids = [uid for uid in range(1, 50_000) if uid % 500]
    view = make(uids)
    view.fold()
    view.fold()
    assert sum(len(part) * part.itemsize for part in (view._uids, view._folded or ())) < 2000
    assert view.number(501) == 500
    view.fold()
    assert view.take(update(gone=(range(1, 3),), new=(60_000,)))
    view.fold()
    assert len(view) == len(uids) + 1
    view.fold()
    assert view.release_expunged() == ([1, 1], [1, 2])
    view.fold()
    assert list(view.uids) == [*uids[2:], 60_000]


def test_what_is_small_or_full_of_gaps_is_not_folded() -> None:
    for uids in (list(range(1, FOLDED_FROM)), list(range(1, 4 * FOLDED_RUNS, 2))):
        view = make(uids)
        view.fold()
        assert list(view._uids) == uids
