"""The text column finds what reading every message finds, in any charset and on nasty messages."""

import base64
import quopri
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mailbox_support import House, mail, make_house
from support import run
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from certmaild.mailbox import searching, text_frames
from certmaild.mailbox.content import open_cards
from certmaild.mailbox.engine_memory import MemoryEngine
from certmaild.mailbox.errors import ColumnDamaged, Damaged
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_text import MESSAGE_TEXT_OCTETS, Kind, mark_range
from certmaild.mailbox.pool import MailboxPool
from certmaild.mailbox.search import (
    And,
    BodyHas,
    HasFlags,
    HasUid,
    HeaderHas,
    Not,
    Or,
    SearchKey,
    TextHas,
)
from certmaild.mailbox.search_text import MessageText, read_facts_frame
from certmaild.mailbox.text import normalise
from certmaild.mailbox.text_column import Column
from certmaild.mailbox.text_keeper import GROWTH_S, LONGEST_REST_S
from certmaild.mailbox.values import FlagOp, Flags, SystemFlag

EVERY = 0xFFFFFFFF


def build(house: House, box: str = "INBOX") -> None:
    """The whole column of a folder."""
    run(house.mailbox._keeper.extend(house.box(box), 1, max((e.uid for e in house.entries(box)), default=0)))


def frames(house: House, box: str = "INBOX") -> list[list[int]]:
    """UIDs by frame."""
    shelf, box_id = house.mailbox._reach.shelf, house.box(box)
    return run(house.engine.read(lambda txn: [list(f.directory.uids) for f in Column(txn, shelf, box_id).frames()]))


def named(house: House) -> list[int]:
    """UIDs that the column of INBOX names."""
    return [uid for frame in frames(house) for uid in frame]


def found(house: House, key: SearchKey, box: str = "INBOX") -> list[int]:
    return list(run(house.mailbox.find(house.box(box), key)).uids)


def holds(key: SearchKey, text: MessageText, uid: int, flags: int) -> bool:
    """The oracle: one message, read itself."""
    match key:
        case HeaderHas(name, needle):
            return text.header_has(name.lower(), normalise(needle))
        case BodyHas(needle):
            return text.body_has(normalise(needle))
        case TextHas(needle):
            return text.text_has(normalise(needle))
        case HasFlags(bits):
            return flags & bits == bits
        case HasUid(uids):
            return any(uid in run_ for run_ in uids)
        case Not(inner):
            return not holds(inner, text, uid, flags)
        case And(keys):
            return all(holds(inner, text, uid, flags) for inner in keys)
        case Or(keys):
            return any(holds(inner, text, uid, flags) for inner in keys)
    raise AssertionError(key)


def expected(house: House, key: SearchKey, box: str = "INBOX") -> list[int]:
    def work(txn: Any) -> list[int]:
        uids = []
        for entry in house.entries(box):
            (card,) = open_cards(txn, house.user_id, [(entry.mid, entry.mk)])
            assert card is not None and read_facts_frame(txn, card)
            if holds(key, MessageText(txn, card), entry.uid, entry.flags):
                uids.append(entry.uid)
        return uids

    return run(house.engine.read(work))


# Messages and needles over an alphabet so small that needles are met, and so odd that folding and joining matter.

ALPHABET = (
    "aAbB eE.,<>@:-=?_ \t\0\x01\r\n\u00e9\u0301\u0345\u00df\u017f\ufb01\u0130\u0131\u212b\u00c5\u03a9\u2126\u1fb3"
)
ALPHABET += "\uff41\u3042\u30a2\uff76\uff9e\u0416\u0436\u4e2d\u00ff\u00fe\U0001f600\U00010400\u00ad\u200d"
texts = st.text(ALPHABET, max_size=24)
CHARSETS = ["utf-8", "iso-8859-1", "utf-16", "utf-7", "iso-2022-jp", "koi8-r", "shift_jis", "gb2312", "nonsense", ""]
NAMES = [b"Subject", b"X-Subject", b"From", b"To", b"Cc", b"X-\xe9\xff", b"X-Spam", b"Received"]


def in_charset(text: str, charset: str) -> bytes:
    try:
        return text.encode(charset or "utf-8", "replace")
    except LookupError:
        return text.encode("utf-8")


@st.composite
def header_values(draw: Any) -> bytes:
    text, charset = draw(texts), draw(st.sampled_from(CHARSETS))
    octets = in_charset(text, charset)
    match draw(st.integers(0, 4)):
        case 0:
            return b"=?%b?B?%b?=" % (charset.encode(), base64.b64encode(octets))
        case 1:
            word = quopri.encodestring(octets, header=True).replace(b"=\n", b"").replace(b"?", b"=3F")
            return b"=?%b?q?%b?= tail" % (charset.encode(), word.replace(b" ", b"_"))
        case 2:
            return draw(st.binary(max_size=20)).replace(b"\r", b"").replace(b"\n", b"")
        case 3:
            return b"folded\r\n " + octets.replace(b"\r", b"").replace(b"\n", b"") + b"\r\n\tagain"
        case _:
            return octets.replace(b"\r", b"").replace(b"\n", b"")


@st.composite
def parts(draw: Any, depth: int = 0) -> bytes:
    """An entity: header fields of its content, a blank line, content."""
    kind = draw(st.integers(0, 5 if depth < 2 else 2))
    if kind <= 2:
        charset = draw(st.sampled_from(CHARSETS))
        octets = in_charset(draw(texts), charset) if kind else draw(st.binary(max_size=40))
        encoding = draw(st.sampled_from([b"7bit", b"8bit", b"base64", b"quoted-printable", b"odd"]))
        if encoding == b"base64":
            octets = base64.encodebytes(octets).replace(b"\n", b"\r\n")
        elif encoding == b"quoted-printable":
            octets = quopri.encodestring(octets).replace(b"\n", b"\r\n")
        media = draw(st.sampled_from([b"text/plain", b"text/html", b"application/pdf", b"", b"nonsense"]))
        return b"Content-Type: %b; charset=%b; name=aab\r\nContent-Transfer-Encoding: %b\r\n\r\n%b\r\n" % (
            media,
            charset.encode(),
            encoding,
            octets,
        )
    if kind == 3:
        return b"Content-Type: message/rfc822\r\n\r\n" + draw(messages(depth + 1))
    inner = draw(st.lists(parts(depth + 1), max_size=3))
    boundary = b"b%d" % depth
    body = b"".join(b"--" + boundary + b"\r\n" + one + b"\r\n" for one in inner)
    return b"Content-Type: multipart/mixed; boundary=%b\r\n\r\naB\r\n%b--%b--\r\n" % (boundary, body, boundary)


@st.composite
def messages(draw: Any, depth: int = 0) -> bytes:
    fields = draw(st.lists(st.tuples(st.sampled_from(NAMES), header_values()), max_size=4))
    header = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
    match draw(st.integers(0, 9)):
        case 0:
            return draw(st.binary(max_size=60))
        case 1:
            return header
    return header + draw(parts(depth))


def leaves(needles: st.SearchStrategy[str]) -> st.SearchStrategy[SearchKey]:
    names = st.sampled_from(["Subject", "from", "x-\u00e9\u00ff", "X-SPAM", "received", "missing", "content-type"])
    return st.one_of(
        needles.map(BodyHas),
        needles.map(TextHas),
        st.builds(HeaderHas, names, needles | st.just("")),
        st.builds(HasUid, st.lists(st.builds(range, st.integers(1, 4), st.integers(4, 9)), max_size=2)),
        st.just(HasFlags(SystemFlag.SEEN)),
    )


def programs(needles: st.SearchStrategy[str]) -> st.SearchStrategy[SearchKey]:
    return st.recursive(
        leaves(needles),
        lambda inner: st.one_of(
            inner.map(Not),
            st.lists(inner, max_size=3).map(lambda keys: And(tuple(keys))),
            st.lists(inner, max_size=3).map(lambda keys: Or(tuple(keys))),
        ),
        max_leaves=5,
    )


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_the_column_finds_what_reading_finds(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # Frames of a few messages, and some messages that are only named.
        patch.setattr(text_frames, "FRAME_TEXT_OCTETS", data.draw(st.sampled_from([40, 300, 1 << 18])))
        patch.setattr(text_frames, "MESSAGE_TEXT_OCTETS", data.draw(st.sampled_from([50, 1 << 20])))
        patch.setattr(text_frames, "BUILD_MESSAGES", data.draw(st.sampled_from([1, 3, 128])))
        patch.setattr(searching, "WORTH_BUILDING", data.draw(st.sampled_from([1, 64])))
        house = make_house(tmp_path_factory.mktemp("house"))
        octets = data.draw(st.lists(messages(), min_size=1, max_size=8))
        half = len(octets) // 2
        house.append(*octets[:half], flags=Flags(SystemFlag.SEEN)) if half else None
        build(house)
        house.append(*octets[half:])
        if data.draw(st.booleans()):
            build(house)
        known = "".join(texts_of(house))
        pieces = st.builds(
            lambda at, size: known[at : at + size], st.integers(0, max(0, len(known) - 1)), st.integers(1, 9)
        )
        needles = (texts | pieces).filter(bool)
        for key in data.draw(st.lists(programs(needles), min_size=1, max_size=6)):
            assert found(house, key) == expected(house, key), key
        house.mailbox.close()


def texts_of(house: House) -> Iterator[str]:
    """What can be found: as the column has it, so that needles also reach over the borders of fields and messages."""

    def work(txn: Any) -> list[str]:
        headers, bodies = [], []
        for entry in house.entries():
            (card,) = open_cards(txn, house.user_id, [(entry.mid, entry.mk)])
            assert card is not None and read_facts_frame(txn, card)
            text = MessageText(txn, card)
            headers += [piece for field in text.header for piece in field]
            bodies += text.body(1 << 20) or []
        return bodies + headers

    yield from run(house.engine.read(work))


def test_no_match_over_the_border_of_two_messages(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    house.append(*[b"Subject: one\r\nX-Name: two\r\n\r\nred"] * 3)
    build(house)
    for border in ("redred", "red\x00red", "onex-name", "one two", "subject: one", "twosubject"):
        assert found(house, TextHas(border)) == [] == expected(house, TextHas(border))
    assert found(house, TextHas("name")) == [1, 2, 3]
    assert found(house, HeaderHas("name", "two")) == []


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = make_house(tmp_path)
    house.append(*[mail(f"subject {n}", f"marked{n}text " + "words " * 1000) for n in range(100)])
    return house


def finish_cleaning(house: House) -> None:
    house.mailbox._keeper.clean()
    cleaning = house.mailbox._keeper._cleaning
    if cleaning is not None:
        run(cleaning)


def expunge(house: House, *uids: int) -> None:
    runs = [range(uid, uid + 1) for uid in uids]
    run(house.mailbox.store_flags(house.box(), runs, FlagOp.ADD, Flags(SystemFlag.DELETED)))
    run(house.mailbox.expunge(house.box(), runs))


def text_rows(house: House) -> dict[bytes, bytes]:
    return {key: value for (_, key), value in house.rows([Table.TEXT]).items()}


def opened_texts(house: House, rows: dict[bytes, bytes]) -> bytes:
    """What the user's keys open of these rows, taken from whatever commit."""
    engine = MemoryEngine()
    for key, value in rows.items():
        run(engine.write(lambda txn, key=key, value=value: txn.put(Table.TEXT, key, value)))
    shelf = house.mailbox._reach.shelf

    def work(txn: Any) -> bytes:
        return b"".join(
            frame.text(kind)
            for frame in Column(txn, shelf, house.box()).frames()
            for kind in (Kind.HEADERS, Kind.BODIES)
        )

    return run(engine.read(work))


def test_a_search_builds_the_column_and_later_ones_read_nothing_else(house: House) -> None:
    assert found(house, TextHas("marked7text")) == [8]
    assert named(house) == list(range(1, 101))
    # The messages themselves are not read any more.
    for table, key in house.rows([Table.BLOB, Table.CARD]):
        run(house.engine.write(lambda txn, table=table, key=key: txn.delete(table, key)))
    assert found(house, TextHas("marked7text")) == [8]
    assert found(house, HeaderHas("subject", "SUBJECT 99")) == [100]
    assert found(house, Not(BodyHas("words"))) == []
    house.reopen()
    assert found(house, BodyHas("marked99")) == [100]


def test_a_search_of_few_builds_nothing(house: House) -> None:
    key = And((HasUid([range(3, 60)]), TextHas("text")))
    assert found(house, key) == list(range(3, 60))
    assert text_rows(house) == {}


def test_what_came_later_is_read_itself_and_then_added_to_the_last_frame(house: House) -> None:
    build(house)
    before = frames(house)
    house.append(*[mail("late", f"late{n}") for n in range(70)])
    assert found(house, And((HasUid([range(101, 111)]), BodyHas("late3")))) == [104]
    assert frames(house) == before
    assert found(house, BodyHas("late3")) == [104, *range(131, 141)]
    after = frames(house)
    assert (
        [uid for frame in after for uid in frame] == list(range(1, 171))
        and after[:-1] == before[:-1]
        and len(after) == len(before)
    )


def test_too_much_text_is_only_named(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    house.append(mail("a"), mail("b", "x" * MESSAGE_TEXT_OCTETS + "end"), mail("c", "end"))
    build(house)
    assert frames(house) == [[1, 2, 3]]
    assert sum(map(len, text_rows(house).values())) < 2000
    assert found(house, BodyHas("xend")) == [2]
    assert found(house, BodyHas("end")) == [2, 3]
    assert found(house, Not(TextHas("end"))) == [1]


def test_expunged_text_is_gone_from_the_column(house: House) -> None:
    """Its frame stands under a new key, and the old key is nowhere."""
    build(house)
    before = text_rows(house)
    assert b"marked7text" in opened_texts(house, before)
    expunge(house, 8)
    finish_cleaning(house)
    after = text_rows(house)
    assert b"marked7text" not in opened_texts(house, after)
    assert b"marked6text" in opened_texts(house, after) and b"marked8text" in opened_texts(house, after)
    assert named(house) == [uid for uid in range(1, 101) if uid != 8]
    # The old texts beside the new directories, as from an old page of the file: they do not open.
    changed = {key: value for key, value in before.items() if key in after and after[key] != value and key[32]}
    assert len(changed) == 2
    with pytest.raises(Damaged):
        opened_texts(house, after | changed)
    assert found(house, TextHas("text")) == [uid for uid in range(1, 101) if uid != 8]


def test_when_most_goes_frames_are_joined(house: House) -> None:
    build(house)
    many = len(frames(house))
    assert many >= 2
    expunge(house, *[uid for uid in range(1, 101) if uid % 10])
    finish_cleaning(house)
    assert frames(house) == [list(range(10, 101, 10))]
    assert found(house, BodyHas("marked49text")) == [50]
    expunge(house, *range(10, 101, 10))
    finish_cleaning(house)
    assert text_rows(house) == {}
    house.append(mail("new", "after all"))
    build(house)
    assert found(house, BodyHas("after all")) == [101] and frames(house) == [[101]]


@pytest.mark.parametrize("leaving", ["move", "folder"])
def test_what_leaves_otherwise_leaves_the_column_too(house: House, leaving: str) -> None:
    run(house.mailbox.create_folder("Projects"))
    box = house.box("Projects")
    run(house.mailbox.copy(house.box(), [range(1, 101)], box))
    build(house)
    build(house, "Projects")
    if leaving == "move":
        run(house.mailbox.move(house.box(), [range(1, 51)], box))
        finish_cleaning(house)
        assert named(house) == list(range(51, 101))
        assert found(house, BodyHas("marked0text")) == []
        assert found(house, BodyHas("marked0text"), "Projects") == [1, 101]
        return
    run(house.mailbox.delete_folder("Projects"))
    finish_cleaning(house)
    assert [key for key in text_rows(house) if key[16:32] != house.box()] == []
    assert found(house, BodyHas("marked0text")) == [1]


def test_a_crash_between_expunge_and_cleaning_is_made_good_at_the_next_session(house: House) -> None:
    build(house)
    clean = house.mailbox._keeper.clean
    house.mailbox._keeper.clean = lambda: None  # type: ignore[method-assign]
    expunge(house, 8)
    house.mailbox._keeper.clean = clean  # type: ignore[method-assign]
    low, high = mark_range(house.user_id)
    assert [low <= key < high for key in text_rows(house)].count(True) == 1
    assert 8 in named(house) and found(house, BodyHas("marked7text")) == []
    house.reopen()
    finish_cleaning(house)
    assert 8 not in named(house)
    assert not any(low <= key < high for key in text_rows(house))


def test_two_processes_at_once(house: House) -> None:
    """Each slice is built by both and written by one; what goes meanwhile is not written at all."""
    shelf, box = house.mailbox._reach.shelf, house.box()
    read, write = house.engine.read, house.engine.write
    mine = run(read(lambda txn: text_frames.build(txn, shelf, box, EVERY)))
    other = run(read(lambda txn: text_frames.build(txn, shelf, box, EVERY)))
    assert run(write(lambda txn: mine.write(txn, shelf))) is True
    assert run(write(lambda txn: other.write(txn, shelf))) is False
    rows = text_rows(house)
    late = mail("late", "late")
    house.append(late, late)
    mine, other = (run(read(lambda txn: text_frames.build(txn, shelf, box, EVERY))) for _ in "12")
    expunge(house, 102)
    assert run(write(lambda txn: mine.write(txn, shelf))) is False
    mine = run(read(lambda txn: text_frames.build(txn, shelf, box, EVERY)))
    assert run(write(lambda txn: mine.write(txn, shelf))) is True
    assert run(write(lambda txn: other.write(txn, shelf))) is False
    assert named(house) == list(range(1, 102)) and text_rows(house) != rows
    # A cleaning that another overtakes is discarded as well.
    house.mailbox._keeper.clean = lambda: None  # type: ignore[method-assign]
    expunge(house, 5)
    one, two = (run(read(lambda txn: text_frames.without_gone(txn, shelf))) for _ in "12")
    assert run(write(lambda txn: one.write(txn, shelf))) is True
    assert run(write(lambda txn: two.write(txn, shelf))) is False
    assert 5 not in named(house)


def test_a_process_that_does_not_get_the_lease_reads_the_messages(house: House) -> None:
    class Taken:
        def take(self, name: bytes, seconds: float) -> bool:
            return False

        def give_back(self, name: bytes) -> None:
            pass

    house.mailbox._keeper._leases = Taken()
    assert found(house, BodyHas("marked7text")) == [8]
    assert text_rows(house) == {}


def test_a_search_ends_when_nobody_wants_it(house: House) -> None:
    class Gone(Exception):
        pass

    async def between(uid: int) -> None:
        raise Gone

    with pytest.raises(Gone):
        run(house.mailbox.find(house.box(), TextHas("x"), between=between))
    assert text_rows(house) == {}


def test_the_column_of_another_folder_or_user_is_not_taken(house: House) -> None:
    build(house)
    run(house.mailbox.move(house.box(), [range(8, 9)], house.box("Archive")))
    run(house.mailbox.copy(house.box(), [range(1, 101)], house.box("Archive")))
    finish_cleaning(house)
    build(house, "Archive")
    mine, other = house.box(), house.box("Archive")
    for key, value in text_rows(house).items():
        if key[16:32] == other:
            house.put(Table.TEXT, key[:16] + mine + key[32:], value)
    with capturedLogs() as logs:
        assert found(house, TextHas("marked7text")) == []
        assert found(house, TextHas("marked8text")) == [9]
    assert alarms(logs) == 1
    assert found(house, TextHas("marked7text"), "Archive") == [1]


def alarms(logs: Any) -> int:
    return sum("ALARM: search texts" in (formatEvent(event) or "") for event in logs)


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("which", [0, 1, -1])
def test_damage_is_told_and_made_good(house: House, kind: Kind, which: int) -> None:
    """The search itself is exact; the frames before the damaged one stay, the others come anew under fresh keys."""
    build(house)
    before = text_rows(house)
    key = [key for key in before if key[32] == kind][which]
    firsts = sorted({int.from_bytes(key[33:], "big") for key in before})
    house.put(Table.TEXT, key, before[key][:-1] + bytes([before[key][-1] ^ 1]))
    with capturedLogs() as logs:
        assert found(house, TextHas("marked7text")) == [8]
        assert found(house, And((HeaderHas("subject", "subject 99"), BodyHas("marked99text")))) == [100]
    assert alarms(logs) == 1
    assert named(house) == list(range(1, 101))
    after = text_rows(house)
    kept = [one for one in before if after.get(one) == before[one]]
    assert len(kept) == 3 * firsts[:-1].index(firsts[which]) if which != -1 else 3 * (len(firsts) - 1)
    # Nobody reads the messages any more.
    for table, row in house.rows([Table.BLOB, Table.CARD]):
        run(house.engine.write(lambda txn, table=table, row=row: txn.delete(table, row)))
    assert found(house, TextHas("marked7text")) == [8]


def test_missing_texts_are_damage_too(house: House) -> None:
    build(house)
    for key in text_rows(house):
        if key[32] == Kind.BODIES:
            run(house.engine.write(lambda txn, key=key: txn.delete(Table.TEXT, key)))
    assert found(house, TextHas("marked7text")) == [8]
    assert named(house) == list(range(1, 101))


def test_damage_does_not_keep_expunged_text(house: House) -> None:
    """Neither that of the damaged frame nor that of others."""
    build(house)
    rows = text_rows(house)
    key = next(key for key in rows if key[32] == Kind.BODIES)
    house.put(Table.TEXT, key, rows[key][:-1] + bytes([rows[key][-1] ^ 1]))
    with capturedLogs() as logs:
        expunge(house, 8, 100)
        finish_cleaning(house)
    assert alarms(logs) == 1
    low, high = mark_range(house.user_id)
    assert not any(low <= key < high for key in text_rows(house))
    assert found(house, TextHas("marked")) == [uid for uid in range(1, 100) if uid != 8] == named(house)


def test_a_slice_made_before_the_column_was_cut_off_is_not_added(house: House) -> None:
    """Else what was cut off would never be made anew."""
    build(house)
    house.append(mail("late", "late"))
    shelf, box = house.mailbox._reach.shelf, house.box()
    late = run(house.engine.read(lambda txn: text_frames.build(txn, shelf, box, EVERY)))
    late.before.clear()
    first, directory = run(
        house.engine.read(lambda txn: (last := Column(txn, shelf, box).last()) and (last.first_uid, last.value))
    )  # type: ignore[misc]
    damaged = ColumnDamaged("as it were", box, first, directory)
    assert run(house.engine.write(lambda txn: text_frames.cut_off(txn, shelf, damaged))) is False
    assert run(house.engine.write(lambda txn: late.write(txn, shelf))) is False
    again = text_rows(house)
    assert run(house.engine.write(lambda txn: text_frames.cut_off(txn, shelf, damaged))) is False
    assert text_rows(house) == again
    build(house)
    assert found(house, TextHas("marked")) == list(range(1, 101)) and named(house) == list(range(1, 102))


def test_a_long_column_is_cut_off_in_slices(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_frames, "CUT_FRAMES", 1)
    build(house)
    rows = text_rows(house)
    house.put(Table.TEXT, min(rows), b"nonsense")
    assert len(frames_of(rows)) >= 3
    assert found(house, TextHas("marked7text")) == [8]
    assert named(house) == list(range(1, 101))


def frames_of(rows: dict[bytes, bytes]) -> list[bytes]:
    return [key for key in rows if key[32] == Kind.DIRECTORY]


class Later:
    """A house whose pool has a clock, as the daemon's has."""

    def __init__(self, directory: Path, *, ahead: bool = False) -> None:
        self.clock = Clock()
        self.house = make_house(directory)
        self.house.mailbox.close()
        engine, secrets = self.house.engine, self.house.secrets
        self.house.pool = MailboxPool(
            engine, secrets, engine.hub, self.clock.seconds, call_later=self.clock.callLater, ahead=ahead
        )
        self.house.mailbox = self.house.pool.open(self.house.user_id, "joe@example.com", self.house.keys)

    def wait(self) -> None:
        self.clock.advance(GROWTH_S)


def test_what_comes_into_a_searched_folder_comes_into_its_column(tmp_path: Path) -> None:
    later = Later(tmp_path)
    house = later.house
    house.append(mail("one"))
    build(house)
    later.wait()
    house.append(mail("two"), mail("three"))
    house.deliver(mail("four"))
    run(house.mailbox.absorb())
    assert named(house) == [1]
    later.wait()
    assert named(house) == [1, 2, 3, 4]
    house.append(mail("five"), mail("six"), box="Archive")
    run(house.mailbox.copy(house.box("Archive"), [range(1, 2)], house.box()))
    run(house.mailbox.move(house.box("Archive"), [range(2, 3)], house.box()))
    later.wait()
    assert named(house) == [1, 2, 3, 4, 5, 6]
    # Nobody has searched the other one.
    assert frames(house, "Archive") == []
    assert not later.clock.getDelayedCalls()


def test_ahead_every_folder_has_a_column(tmp_path: Path) -> None:
    later = Later(tmp_path, ahead=True)
    house = later.house
    house.append(mail("one"), box="Archive")
    house.deliver(mail("two"))
    run(house.mailbox.absorb())
    later.wait()
    assert frames(house, "Archive") == [[1]] and frames(house) == [[1]]


def test_nothing_is_built_for_who_has_gone(tmp_path: Path) -> None:
    later = Later(tmp_path, ahead=True)
    later.house.append(mail("one"))
    later.house.mailbox.close()
    later.wait()
    assert text_rows(later.house) == {}


def test_damage_met_in_the_background_is_made_good(tmp_path: Path) -> None:
    later = Later(tmp_path)
    house = later.house
    house.append(mail("one"), mail("two"))
    build(house)
    later.wait()
    key = next(key for key in text_rows(house) if key[32] == Kind.HEADERS)
    house.put(Table.TEXT, key, b"nonsense")
    house.append(mail("three"))
    with capturedLogs() as logs:
        later.wait()
    assert alarms(logs) == 1 and named(house) == [1, 2, 3]


def test_what_comes_while_the_column_grows_is_added_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In slices of what a second brings, not of each message for itself."""
    later = Later(tmp_path)
    house = later.house
    house.append(mail("one"))
    build(house)
    later.wait()
    waiting: list[tuple[Deferred[Any], Any]] = []

    def scan(work: Any) -> "Deferred[Any]":
        waiting.append((Deferred(), work))
        return waiting[-1][0]

    monkeypatch.setattr(house.engine, "scan", scan)

    def go_on() -> None:
        deferred, work = waiting.pop()
        house.engine.read(work).chainDeferred(deferred)

    house.append(mail("two"))
    later.wait()
    house.append(mail("three"))
    go_on()
    go_on()
    assert named(house) == [1, 2] and not waiting
    house.append(mail("four"))
    later.wait()
    house.append(mail("five"))
    later.wait()
    while waiting:
        go_on()
        # A slice that took long is followed by a rest.
        later.clock.advance(LONGEST_REST_S)
    assert named(house) == [1, 2, 3, 4, 5]
    assert not later.clock.getDelayedCalls()
