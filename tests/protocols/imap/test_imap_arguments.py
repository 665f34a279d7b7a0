"""Arguments of FETCH, STORE, SEARCH and APPEND as values."""

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmaild.mailbox.search import (
    Aged,
    All,
    And,
    BodyHas,
    DateOf,
    DateOp,
    HasFlags,
    HasKeyword,
    HasUid,
    HeaderHas,
    ModSeqFrom,
    Not,
    OnDay,
    Or,
    SearchKey,
    SizeIs,
    TextHas,
)
from certmaild.mailbox.values import FlagOp, Flags, SystemFlag, UidSet
from certmaild.protocols.errors import GrammarError
from certmaild.protocols.imap.grammar.append_arguments import AppendOptions, parse_append_options
from certmaild.protocols.imap.grammar.fetch_items import (
    MACROS,
    BinarySize,
    BodyOctets,
    Fact,
    FetchProgram,
    Section,
    SectionKind,
    format_item,
    format_section,
    parse_fetch,
)
from certmaild.protocols.imap.grammar.flags import MAX_FLAGS, parse_flag_list, parse_store_flags
from certmaild.protocols.imap.grammar.search_program import (
    MAX_DEPTH,
    MAX_KEYS,
    BadCharset,
    CharsetForbidden,
    SearchReturn,
    parse_search,
)
from certmaild.protocols.imap.grammar.sequence_sets import parse_sequence_set
from certmaild.protocols.imap.grammar.store_arguments import StoreRequest, parse_store
from certmaild.protocols.imap.grammar.tokens import Cursor


def fetch(text: bytes) -> FetchProgram:
    return parse_fetch(Cursor((text,)))


# FETCH

PATHS = st.lists(st.integers(1, 20), max_size=4).map(tuple)
FIELDS = st.lists(st.text("abcXYZ-1", min_size=1, max_size=6).map(str.encode), min_size=1, max_size=3).map(tuple)


@st.composite
def sections(draw: st.DrawFn) -> Section:
    path = draw(PATHS)
    kind = draw(st.sampled_from([kind for kind in SectionKind if path or kind is not SectionKind.MIME]))
    fields = draw(FIELDS) if kind in (SectionKind.FIELDS, SectionKind.FIELDS_NOT) else ()
    return Section(path, kind, fields)


PARTIALS = st.none() | st.tuples(st.integers(0, 2**63 - 1), st.integers(1, 2**63 - 1))


@st.composite
def body_items(draw: st.DrawFn) -> BodyOctets:
    peek, partial = draw(st.booleans()), draw(PARTIALS)
    if draw(st.booleans()):
        section = draw(sections())
        return BodyOctets(section, b"BODY[" + format_section(section) + b"]", peek, False, partial)
    section = Section(draw(PATHS))
    return BodyOctets(section, b"BINARY[" + format_section(section) + b"]", peek, True, partial)


ITEMS = (
    st.sampled_from(Fact)
    | body_items()
    | PATHS.map(lambda path: BinarySize(path, b"BINARY.SIZE[" + format_section(Section(path)) + b"]"))
)


@given(st.lists(ITEMS, min_size=1, max_size=6, unique=True))
def test_fetch_items_read_back(items: list[Fact | BodyOctets | BinarySize]) -> None:
    program = fetch(b"(" + b" ".join(format_item(item) for item in items) + b")")
    assert program == FetchProgram(tuple(items))


def test_fetch_macros_and_old_names() -> None:
    for macro, items in MACROS.items():
        assert fetch(macro.lower()).items == items
    assert fetch(b"(FLAGS flags UID)").items == (Fact.FLAGS, Fact.UID)
    assert fetch(b"RFC822").items == (BodyOctets(Section(), b"RFC822", peek=False),)
    assert fetch(b"RFC822.SIZE").items == (Fact.SIZE,)
    header = fetch(b"RFC822.HEADER").items[0]
    assert isinstance(header, BodyOctets)
    assert header.peek
    assert format_item(header) == b"RFC822.HEADER"
    assert fetch(b"BODY").items == (Fact.BODY,)
    assert fetch(b"(UID FLAGS) (CHANGEDSINCE 12345)").changed_since == 12345


def test_partial_and_fields() -> None:
    item = fetch(b'BODY.PEEK[1.2.HEADER.FIELDS (From "x y")]<0.393216>').items[0]
    assert isinstance(item, BodyOctets)
    assert item.name == b'BODY[1.2.HEADER.FIELDS (From "x y")]'
    assert item.partial == (0, 393216)
    assert item.section == Section((1, 2), SectionKind.FIELDS, (b"From", b"x y"))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"()",
        b"(ALL)",
        b"FOO",
        b"FLAGS UID",
        b"BODY[",
        b"BODY[0]",
        b"BODY[1.]",
        b"BODY[1.2.]",
        b"BODY[MIME]",
        b"BODY[FOO]",
        b"BODY[HEADER.FIELDS]",
        b"BODY[HEADER.FIELDS ()]",
        b'BODY[HEADER.FIELDS ("")]',
        b"BODY[]<0>",
        b"BODY[]<0.0>",
        b"BODY[]<1.2",
        b"BINARY",
        b"BINARY[1.]",
        b"BINARY[TEXT]",
        b"BINARY.SIZE[HEADER]",
        b"RFC822.PEEK",
        b"FLAGS (VANISHED)",
        b"FLAGS (CHANGEDSINCE 1 VANISHED)",
        b"FLAGS (CHANGEDSINCE 99999999999999999999)",
        b"BODY[" + b"1." * 200 + b"1]",
        b"SAVEDATE",
        b"EMAILID",
    ],
)
def test_bad_fetch(text: bytes) -> None:
    with pytest.raises(GrammarError):
        fetch(text)


# STORE


def test_store() -> None:
    def store(text: bytes) -> StoreRequest:
        return parse_store(Cursor((text,)))

    assert store(b"FLAGS ()") == StoreRequest(FlagOp.REPLACE, Flags(), False)
    assert store(b"+flags.silent (\\deleted $Junk)") == StoreRequest(
        FlagOp.ADD, Flags(int(SystemFlag.DELETED), frozenset(("$Junk",))), True
    )
    assert store(b"(UNCHANGEDSINCE 12) -FLAGS \\Seen \\Recent") == StoreRequest(
        FlagOp.REMOVE, Flags(int(SystemFlag.SEEN)), False, 12
    )
    for bad in (
        b"",
        b"FLAGS",
        b"FOO (\\Seen)",
        b"(CHANGEDSINCE 1) FLAGS ()",
        b"FLAGS (\\Foo)",
        b"FLAGS () x",
        b"FLAGS (" + b"x" * 256 + b")",
        b"FLAGS " + b"a " * MAX_FLAGS + b"a",
        b"FLAGS (" + b"a " * MAX_FLAGS + b"a)",
    ):
        with pytest.raises(GrammarError):
            store(bad)


KEYWORDS = st.frozensets(st.text("abcX$_-", min_size=1, max_size=5), max_size=4)


@given(st.integers(0, 31), KEYWORDS, st.booleans())
def test_flags_read_back(system: int, keywords: frozenset[str], listed: bool) -> None:
    names = [b"\\" + flag.name.encode() for flag in SystemFlag if flag.name and system & flag]
    words = names + [keyword.encode() for keyword in keywords]
    flags = Flags(system, keywords)
    assert parse_flag_list(Cursor((b"(" + b" ".join(words) + b")",))) == flags
    if words and not listed:
        assert parse_store_flags(Cursor((b" ".join(words),))) == flags


# SEARCH


class Scope:
    """Ten messages whose UIDs are ten times their numbers."""

    def uids_of_numbers(self, text: bytes) -> UidSet:
        return parse_sequence_set(text, largest=10) if text != b"$" else (range(7, 8),)

    def uids_of_uids(self, text: bytes) -> UidSet:
        return self.uids_of_numbers(text)

    def recent(self) -> UidSet:
        return (range(9, 11),)


def search(*pieces: bytes) -> SearchKey:
    return parse_search(Cursor(pieces), Scope()).key


RECENT = HasUid((range(9, 11),))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (b"ALL", All()),
        (b"seen", HasFlags(1)),
        (b"UNDELETED", HasFlags(8, wanted=False)),
        (b"RECENT", RECENT),
        (b"OLD", Not(RECENT)),
        (b"NEW", And((RECENT, HasFlags(1, wanted=False)))),
        (b"1:3,5", HasUid((range(1, 4), range(5, 6)))),
        (b"*", HasUid((range(10, 11),))),
        (b"$", HasUid((range(7, 8),))),
        (b"UID 2", HasUid((range(2, 3),))),
        (b"UID $", HasUid((range(7, 8),))),
        (b"SINCE 2-Jan-1970", OnDay(DateOf.INTERNAL, DateOp.SINCE, 1)),
        (b'SENTBEFORE "2-Jan-1970"', OnDay(DateOf.SENT, DateOp.BEFORE, 1)),
        (b"ON 2-Jan-1970", OnDay(DateOf.INTERNAL, DateOp.ON, 1)),
        (b"SUBJECT x", HeaderHas("subject", "x")),
        (b'HEADER X-Foo ""', HeaderHas("x-foo", "")),
        (b"BODY a", BodyHas("a")),
        (b"TEXT a", TextHas("a")),
        (b"KEYWORD $Junk", HasKeyword("$Junk")),
        (b"UNKEYWORD x", HasKeyword("x", wanted=False)),
        (b"LARGER 10", SizeIs(10, larger=True)),
        (b"SMALLER 10", SizeIs(10, larger=False)),
        (b"OLDER 10", Aged(10, younger=False)),
        (b"YOUNGER 10", Aged(10, younger=True)),
        (b"MODSEQ 7", ModSeqFrom(7)),
        (b'MODSEQ "/flags/\\\\draft" all 7', ModSeqFrom(7)),
        (b"NOT SEEN", Not(HasFlags(1))),
        (b"OR SEEN DRAFT", Or((HasFlags(1), HasFlags(16)))),
        (b"SEEN DRAFT", And((HasFlags(1), HasFlags(16)))),
        (b"(SEEN)", HasFlags(1)),
        (b"OR NOT (SEEN DRAFT) ALL SEEN", And((Or((Not(And((HasFlags(1), HasFlags(16)))), All())), HasFlags(1)))),
    ],
)
def test_search_keys(text: bytes, key: SearchKey) -> None:
    assert search(text) == key


def test_search_charsets() -> None:
    assert search(b"CHARSET UTF-8 SUBJECT ", "ä".encode(), b"") == HeaderHas("subject", "ä")
    assert search(b"CHARSET iso-8859-1 TEXT ", b"\xe4", b"") == TextHas("ä")
    with pytest.raises(BadCharset):
        search(b"CHARSET X-FOO ALL")
    with pytest.raises(GrammarError):
        search(b"CHARSET US-ASCII TEXT ", b"\xe4", b"")
    with pytest.raises(CharsetForbidden):
        parse_search(Cursor((b"CHARSET UTF-8 ALL",)), Scope(), charset_allowed=False)


def test_search_returns() -> None:
    def returned(text: bytes) -> frozenset[SearchReturn] | None:
        return parse_search(Cursor((text,)), Scope()).returned

    assert returned(b"ALL") is None
    assert returned(b"RETURN () ALL") == {SearchReturn.ALL}
    assert returned(b"return (min MAX count save) CHARSET UTF-8 ALL") == set(SearchReturn) - {SearchReturn.ALL}
    with pytest.raises(GrammarError):
        returned(b"RETURN (PARTIAL) ALL")
    assert parse_search(Cursor((b"MODSEQ 1",)), Scope()).uses_modseq


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"()",
        b"(ALL",
        b"ALL)",
        b"OR ALL",
        b"NOT",
        b"FOO",
        b"FOO x",
        b"HEADER",
        b'HEADER "" x',
        b"LARGER x",
        b"ALL ",
        b"ALL  ALL",
        b"SINCE 1-Foo-2000",
        b'MODSEQ "x" foo 1',
        b"YOUNGER 0",
        b"0",
        b"EMAILID M1",
        b"NOT " * (MAX_DEPTH + 1) + b"ALL",
        b"(" * 100_000,
        b"ALL " * MAX_KEYS + b"ALL",
    ],
)
def test_bad_search(text: bytes) -> None:
    with pytest.raises(GrammarError):
        search(text)


# APPEND


def test_append_options() -> None:
    def options(text: bytes) -> AppendOptions:
        return parse_append_options(Cursor((text,)))

    assert options(b" ") == AppendOptions()
    assert options(b' (\\Seen) "02-Jan-1970 00:00:00 +0000" ') == AppendOptions(Flags(1), 86400)
    assert options(b" () UTF8 (") == AppendOptions(utf8=True)
    for bad in (b"", b"  ", b" (\\Seen)", b' "x" ', b" UTF8 ", b" UTF8 (x", b" FOO "):
        with pytest.raises(GrammarError):
            options(bad)


# All

WORDS = st.sampled_from(
    [
        *b'( ) [ ] < > . , : * $ \\ " 1 0 99 BODY[ BODY.PEEK[ HEADER.FIELDS NOT OR ALL UID FLAGS +FLAGS \\Seen'.split(),
        b" ",
        b"SINCE 1-Jan-2000",
        b"RETURN (",
        b"CHARSET UTF-8",
        b"(CHANGEDSINCE",
        b"UTF8 (",
        b"\xff",
        b"{",
        b"}",
    ]
)
PARSERS: list[Callable[[Cursor], object]] = [
    parse_fetch,
    parse_store,
    parse_append_options,
    parse_flag_list,
    parse_store_flags,
    lambda cursor: parse_search(cursor, Scope()),
]


@given(st.lists(WORDS, max_size=12), st.sampled_from(PARSERS), st.sampled_from([b"", b" "]))
def test_garbage_raises_grammar_errors_only(words: list[bytes], parse: Callable[[Cursor], object], gap: bytes) -> None:
    for pieces in ((gap.join(words),), tuple(words)):
        with contextlib.suppress(GrammarError):
            parse(Cursor(pieces))
