"""Messages through the open mailbox: append, flags, copy, move, expunge, what sessions are told, quotas, contents."""

import random
from pathlib import Path

import pytest
from mailbox_support import ADDRESS, ALL, NOW, House, mail, make_house
from support import run

from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.content import Content
from certmaild.mailbox.errors import Damaged, FolderMissing, MessageGone, OverQuota
from certmaild.mailbox.identifiers import BoxId
from certmaild.mailbox.layout import Table
from certmaild.mailbox.pages import GONE_ROWS_KEPT, Page
from certmaild.mailbox.values import COPIED_WITHIN, NO_FINAL_CRLF, FlagOp, Flags, SystemFlag

SEEN, DELETED = Flags(SystemFlag.SEEN), Flags(SystemFlag.DELETED)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return make_house(tmp_path)


def one(uid: int) -> list[range]:
    return [range(uid, uid + 1)]


async def read(content: Content, offset: int, length: int) -> bytes:
    """All octets asked for, in as many steps as it takes."""
    pieces = []
    while piece := await content.read(offset, length):
        assert len(piece) <= length
        pieces.append(piece)
        offset, length = offset + len(piece), length - len(piece)
    return b"".join(pieces)


def test_an_appended_message_reads_back(house: House) -> None:
    octets = mail("subject", "x" * 300_000)
    (uid,) = house.append(octets, flags=Flags(SystemFlag.FLAGGED, frozenset(["Work"])))
    (entry,) = house.entries()
    assert (entry.uid, entry.flags, entry.keywords, entry.size) == (uid, SystemFlag.FLAGGED, 1, len(octets))
    assert (entry.internal_date, entry.save_date) == (NOW, NOW)
    card = run(house.mailbox.card(entry))
    assert card is not None and b'"subject"' in card.envelope and card.parts[0].path == ()
    content = house.mailbox.content(card)
    assert run(content.whole()) == octets
    for offset, length in (
        (0, 10),
        (50, 300_000),
        (299_990, 500),
        (len(octets), 5),
        (len(octets) + 9, 5),
        (262_100, 99),
    ):
        assert run(read(content, offset, length)) == octets[offset : offset + length]


def test_the_setting_of_padding_holds_for_what_is_appended(house: House) -> None:
    message = mail("subject", random.Random(1).randbytes(5_000).hex())

    def appended(padding: bool) -> int:
        """Octets in the blob table that one more message takes."""
        house.pool.padding = padding
        house.mailbox.close()
        house.mailbox = house.pool.open(house.user_id, ADDRESS, house.keys)
        before = sum(map(len, house.rows([Table.BLOB]).values()))
        house.append(message)
        return sum(map(len, house.rows([Table.BLOB]).values())) - before

    assert appended(padding=True) > appended(padding=False)


def test_several_messages_are_appended_together_or_not_at_all(tmp_path: Path) -> None:
    house = make_house(tmp_path, messages=3)
    assert house.append(mail(), mail()) == (1, 2)
    before = house.rows()
    with pytest.raises(OverQuota):
        house.append(mail(), mail())
    assert house.rows() == before
    assert house.append(mail()) == (3,)


def test_octets_are_limited(tmp_path: Path) -> None:
    house = make_house(tmp_path, octets=1000)
    house.append(mail("a", "x" * 500))
    with pytest.raises(OverQuota):
        house.append(mail("a", "x" * 500))
    with pytest.raises(OverQuota):
        run(house.mailbox.copy(house.box(), ALL, house.box("Archive")))
    run(house.mailbox.move(house.box(), ALL, house.box("Archive")))
    quota = run(house.mailbox.quota())
    assert (quota.octets_limit, quota.messages_limit, quota.messages) == (1000, None, 1)


def test_a_message_without_final_line_ending_is_marked(house: House) -> None:
    house.append(b"Subject: x\r\n\r\nno end")
    house.deliver(b"Subject: x\r\n\r\nno end")
    run(house.mailbox.absorb())
    assert [entry.flags & NO_FINAL_CRLF for entry in house.entries()] == [NO_FINAL_CRLF, NO_FINAL_CRLF]


def test_large_facts_stand_in_the_blob_once(house: House) -> None:
    parts = "".join(f'--b\r\nContent-Type: text/plain; name="{n:040}"\r\n\r\n{n}\r\n' for n in range(400))
    octets = f"Content-Type: multipart/mixed; boundary=b\r\n\r\n{parts}--b--\r\n".encode()
    house.append(octets)
    run(house.mailbox.copy(house.box(), ALL, house.box("Archive")))
    assert all(len(value) < 1000 for value in house.rows([Table.CARD]).values())
    (entry,) = house.entries("Archive")
    card = run(house.mailbox.card(entry))
    assert card is not None and len(card.parts) == 401 and card.structure.count(b'"TEXT"') == 400


def test_flags_add_remove_replace(house: House) -> None:
    box_id = house.box()
    house.append(mail(), mail())
    added = run(house.mailbox.store_flags(box_id, ALL, FlagOp.ADD, Flags(SystemFlag.SEEN, frozenset(["a", "B"]))))
    assert added.changed == {1, 2} and added.keywords == ("B", "a")
    assert {entry.modseq for entry in added.entries} == {added.highest_modseq}
    again = run(house.mailbox.store_flags(box_id, ALL, FlagOp.ADD, SEEN))
    assert not again.changed and len(again.entries) == 2 and again.highest_modseq == added.highest_modseq
    removed = run(house.mailbox.store_flags(box_id, one(1), FlagOp.REMOVE, Flags(0, frozenset(["A", "unknown"]))))
    assert removed.entries[0].keywords == 1 and removed.keywords == ("B", "a")
    replaced = run(house.mailbox.store_flags(box_id, one(2), FlagOp.REPLACE, DELETED))
    assert (replaced.entries[0].flags, replaced.entries[0].keywords) == (SystemFlag.DELETED, 0)
    status = run(house.mailbox.status(box_id))
    assert (status.messages, status.unseen, status.deleted) == (2, 1, 1)


def test_unchanged_since(house: House) -> None:
    box_id = house.box()
    house.append(mail(), mail(), mail())
    seen = run(house.mailbox.status(box_id)).highest_modseq
    run(house.mailbox.store_flags(box_id, one(2), FlagOp.ADD, SEEN))
    result = run(house.mailbox.store_flags(box_id, ALL, FlagOp.ADD, DELETED, unchanged_since=seen))
    assert result.modified == (2,) and result.changed == {1, 3} and list(result.entries.uids) == [1, 3]


def test_copies_share_card_and_blob(house: House) -> None:
    house.append(mail(), mail(), flags=SEEN)
    result = run(house.mailbox.copy(house.box(), ALL, house.box("Archive")))
    assert (result.source_uids, result.new_uids) == ((1, 2), (1, 2))
    within = run(house.mailbox.copy(house.box(), one(2), house.box()))
    assert within.new_uids == (3,) and house.entries()[2].flags == SystemFlag.SEEN | COPIED_WITHIN
    assert len(house.rows([Table.CARD])) == 2 and run(house.mailbox.quota()).messages == 5
    for box in ("INBOX", "Archive"):
        run(house.mailbox.store_flags(house.box(box), ALL, FlagOp.ADD, DELETED))
        assert len(house.rows([Table.CARD])) == 2
        run(house.mailbox.expunge(house.box(box)))
    rows = house.rows()
    assert not {table for table, _ in rows} & {Table.CARD, Table.OWN, Table.REF, Table.PAGE}
    quota = run(house.mailbox.quota())
    assert (quota.octets, quota.messages) == (0, 0)


def test_move_leaves_nothing_and_costs_no_own_row(house: House) -> None:
    house.append(*[mail(str(n)) for n in range(5)])
    own = house.rows([Table.OWN, Table.CARD])
    result = run(house.mailbox.move(house.box(), [range(2, 4), range(9, 99)], house.box("Trash")))
    assert (result.source_uids, result.new_uids) == ((2, 3), (1, 2))
    assert [entry.uid for entry in house.entries()] == [1, 4, 5] and len(house.entries("Trash")) == 2
    assert house.rows([Table.OWN, Table.CARD]) == own
    same = run(house.mailbox.move(house.box(), ALL, house.box()))
    assert same.source_uids == (1, 4, 5) and [entry.uid for entry in house.entries()] == [6, 7, 8]


def test_expunge_takes_only_what_is_deleted_and_named(house: House) -> None:
    box_id = house.box()
    house.append(*[mail(str(n)) for n in range(6)])
    run(house.mailbox.store_flags(box_id, [range(2, 6)], FlagOp.ADD, DELETED))
    assert run(house.mailbox.expunge(box_id, [range(1, 4)])).uids == (2, 3)
    assert run(house.mailbox.expunge(box_id)).uids == (4, 5)
    assert run(house.mailbox.expunge(box_id)).uids == ()
    assert [entry.uid for entry in house.entries()] == [1, 6]


def test_what_a_session_is_told(house: House) -> None:
    box_id = house.box()
    house.append(*[mail(str(n)) for n in range(4)])
    state = run(house.mailbox.select(box_id))
    assert list(state.uids) == [1, 2, 3, 4] and state.recent == range(1, 5) and state.first_unseen == 1
    assert run(house.mailbox.select(box_id)).recent == range(5, 5)
    assert run(house.mailbox.updates(box_id, state.highest_modseq, state.uid_next)) is None
    run(house.mailbox.store_flags(box_id, one(1), FlagOp.ADD, SEEN))
    run(house.mailbox.store_flags(box_id, one(2), FlagOp.ADD, DELETED))
    run(house.mailbox.expunge(box_id))
    house.append(mail("new"))
    update = run(house.mailbox.updates(box_id, state.highest_modseq, state.uid_next, claim_recent=True))
    assert update is not None
    assert (list(update.changed.uids), list(update.arrived.uids), update.expunged) == ([1], [5], (range(2, 3),))
    assert (update.recent, update.uid_next, update.messages) == (range(5, 6), 6, 4)
    assert run(house.mailbox.select(box_id)).first_unseen == 3
    assert [e.uid for e in house.entries(changed_since=state.highest_modseq)] == [1, 5]


def test_recent_is_told_once_also_after_the_last_session(house: House) -> None:
    house.append(mail())
    assert run(house.mailbox.status(house.box())).recent == 1
    assert run(house.mailbox.select(house.box(), read_only=True)).recent == range(1, 2)
    assert run(house.mailbox.select(house.box())).recent == range(1, 2)
    house.reopen()
    assert run(house.mailbox.status(house.box())).recent == 0
    assert run(house.mailbox.select(house.box())).recent == range(2, 2)


def test_the_expunge_log_forgets_and_says_so(house: House) -> None:
    box_id = house.box()
    house.append(*[mail(str(n)) for n in range(4)])
    begin = run(house.mailbox.status(box_id)).highest_modseq
    run(house.mailbox.store_flags(box_id, one(2), FlagOp.ADD, DELETED))
    run(house.mailbox.expunge(box_id))
    assert run(house.mailbox.vanished_since(box_id, begin)) == (range(2, 3),)
    for _ in range(GONE_ROWS_KEPT + 1):
        house.append(mail())
        house.entries(uids=[range(1, 9)])
        last = run(house.mailbox.status(box_id)).uid_next - 1
        run(house.mailbox.move(box_id, one(last), house.box("Trash")))
    assert run(house.mailbox.vanished_since(box_id, begin)) == (range(2, 3), range(5, 5 + GONE_ROWS_KEPT + 1))
    recent = run(house.mailbox.status(box_id)).highest_modseq
    assert run(house.mailbox.vanished_since(box_id, recent)) == ()
    assert len(house.rows([Table.GONE])) < GONE_ROWS_KEPT


def test_changes_are_announced_per_folder(house: House) -> None:
    told: list[Change] = []
    house.mailbox.watch(told.append)
    house.append(mail())
    run(house.mailbox.move(house.box(), ALL, house.box("Trash")))
    boxes = [change.box_id for change in told if change.kind is ChangeKind.FOLDER]
    assert boxes == [house.box(), house.box(), house.box("Trash")]


def test_a_folder_that_is_not_there(house: House) -> None:
    nowhere = BoxId(bytes(16))
    house.append(mail())
    for work in (
        lambda: house.mailbox.select(nowhere),
        lambda: house.mailbox.status(nowhere),
        lambda: house.mailbox.updates(nowhere, 1, 1),
        lambda: house.mailbox.copy(house.box(), ALL, nowhere),
        lambda: house.mailbox.move(house.box(), ALL, nowhere),
        lambda: house.mailbox.expunge(nowhere),
        lambda: house.mailbox.store_flags(nowhere, ALL, FlagOp.ADD, SEEN),
    ):
        with pytest.raises(FolderMissing):
            run(work())
    assert len(house.entries()) == 1


def test_a_message_expunged_meanwhile(house: House) -> None:
    house.append(mail("a", "x" * 100))
    (entry,) = house.entries()
    card = run(house.mailbox.card(entry))
    assert card is not None
    run(house.mailbox.store_flags(house.box(), ALL, FlagOp.ADD, DELETED))
    run(house.mailbox.expunge(house.box()))
    assert run(house.mailbox.card(entry)) is None
    content = house.mailbox.content(card)
    assert len(run(content.whole())) == content.size  # frames stay for readers under way
    for table, key in house.rows([Table.BLOB]):
        run(house.engine.write(lambda txn, table=table, key=key: txn.delete(table, key)))
    house.reopen()
    with pytest.raises(MessageGone):
        run(house.mailbox.content(card).read(0, 5))


def test_content_that_is_not_what_was_sent_is_refused(house: House) -> None:
    """A co-recipient holds the same key: only the digest in each card catches what he could forge."""
    from certmaild.keystore.primitives import seal_frame
    from certmaild.mailbox.layout import Codec, frame_context, pack_frame

    octets = mail("pay", "100")
    house.append(octets)
    (entry,) = house.entries()
    card = run(house.mailbox.card(entry))
    assert card is not None
    forged = pack_frame(Codec.RAW, octets.replace(b"100", b"999"), True)
    ((_, key),) = house.rows([Table.BLOB])
    house.put(Table.BLOB, key, seal_frame(card.blob.cek, frame_context(card.blob.blob_id, 0, True), forged))
    with pytest.raises(Damaged):
        run(house.mailbox.content(card).whole())


def test_thousands_go_in_slices(house: House) -> None:
    from certmaild.mailbox.messages import PreparedMessage, add_messages

    count = 70 * 256 + 5
    reach = house.mailbox._reach
    prepared = [
        PreparedMessage(n.to_bytes(16, "big"), bytes(32), b"card", n.to_bytes(16, "big"), 1, 0, 0, 0)  # type: ignore[arg-type]
        for n in range(count)
    ]
    run(house.engine.write(lambda txn: add_messages(txn, reach.shelf, reach.secrets, house.box(), prepared, NOW)))
    box_id, trash = house.box(), house.box("Trash")
    stored = run(house.mailbox.store_flags(box_id, ALL, FlagOp.ADD, DELETED))
    assert len(stored.changed) == len(stored.entries) == count
    copied = run(house.mailbox.copy(box_id, ALL, trash))
    assert len(copied.new_uids) == count
    assert len(run(house.mailbox.expunge(box_id)).uids) == count
    moved = run(house.mailbox.move(trash, ALL, box_id))
    assert moved.new_uids == tuple(range(count + 1, 2 * count + 1))
    assert run(house.mailbox.status(trash)).messages == 0
    assert len(run(house.mailbox.select(box_id)).uids) == count


def test_expunge_looks_only_where_something_may_be_deleted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """EXPUNGE of one message costs the same in a folder of any size, whatever was deleted before or meanwhile."""
    house.append(*[mail(str(n)) for n in range(256)], box="Archive")
    archive, inbox = house.box("Archive"), house.box()
    for _ in range(4):
        run(house.mailbox.copy(archive, ALL, inbox))
    run(house.mailbox.store_flags(inbox, [range(700, 701)], FlagOp.ADD, Flags(SystemFlag.DELETED)))
    house.reopen()
    run(house.mailbox.select(inbox))
    looked: list[int] = []
    has_deleted = Page.has_deleted
    monkeypatch.setattr(Page, "has_deleted", lambda page: looked.append(page.first_uid) or has_deleted(page))
    run(house.mailbox.store_flags(inbox, [range(5, 6)], FlagOp.ADD, Flags(SystemFlag.DELETED)))
    assert run(house.mailbox.expunge(inbox, [range(1, 10)])).uids == (5,)
    assert looked == [1, 513]
    run(house.mailbox.store_flags(inbox, [range(300, 301)], FlagOp.ADD, Flags(SystemFlag.DELETED)))
    looked.clear()
    assert run(house.mailbox.expunge(inbox)).uids == (300, 700)
    assert looked == [1, 257, 513]
    # What another process did is not known: everything is looked at again.
    run(house.mailbox.store_flags(inbox, [range(900, 901)], FlagOp.ADD, Flags(SystemFlag.DELETED)))
    house.mailbox._reach.shelf.touched.clear()
    looked.clear()
    assert run(house.mailbox.expunge(inbox)).uids == (900,)
    assert looked == [1, 257, 513, 769]
