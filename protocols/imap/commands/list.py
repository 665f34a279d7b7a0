"""LIST with its extensions (RFC 9051 section 6.3.9, RFC 5258, RFC 5819, RFC 6154), and XLIST."""

from dataclasses import dataclass, field

from certmaild.mailbox.errors import FolderMissing
from certmaild.mailbox.folders import INBOX, FolderTable
from certmaild.mailbox.values import Folder, SpecialUse
from certmaild.protocols.errors import GrammarError
from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.commands.status import read_items, status_line
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.grammar.mailbox_names import Pattern, parse_mailbox_name
from certmaild.protocols.imap.grammar.tokens import Cursor
from certmaild.protocols.imap.names import attributes_of, wire_name

MAX_PATTERNS = 20
SELECTIONS = frozenset({b"SUBSCRIBED", b"REMOTE", b"RECURSIVEMATCH", b"SPECIAL-USE"})
_REAL_SELECTIONS = frozenset({b"SUBSCRIBED", b"SPECIAL-USE"})
"""Those that RECURSIVEMATCH needs one of (RFC 9051 section 6.3.9.1)."""
RETURNS = frozenset({b"SUBSCRIBED", b"CHILDREN", b"SPECIAL-USE", b"STATUS"})
GMAIL = {SpecialUse.JUNK: b"\\Spam", SpecialUse.ALL: b"\\AllMail", SpecialUse.FLAGGED: b"\\Starred"}
"""XLIST is older than RFC 6154 and has names of its own."""


@dataclass(slots=True)
class Question:
    """A parsed LIST."""

    patterns: list[Pattern]
    asks_root: bool = False
    """A single empty pattern: only the hierarchy separator is asked for."""
    selections: frozenset[bytes] = frozenset()
    returns: frozenset[bytes] = frozenset()
    status_items: list[bytes] = field(default_factory=list)

    def matches(self, name: str) -> bool:
        """Whether any pattern matches."""
        return any(pattern.matches(name) for pattern in self.patterns)


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of the answer; ``folder`` is None for a subscribed name without a folder."""

    name: str
    folder: Folder | None
    subscribed: bool
    selected: bool
    child_selected: bool


async def run(context: Context, command: Command) -> None:
    """Folders that match; attributes of special use and children are always shown."""
    question = read_question(context, Cursor(command.arguments))
    if question.asks_root:
        context.untagged(b'LIST (\\Noselect) "/" ""')
    else:
        for listed in candidates(await context.mailbox.folders(), question):
            if question.matches(listed.name):
                context.untagged(format_line(context, question, listed))
                await tell_status(context, question, listed)
            # Long patterns against long names take their time.
            await context.flush()
    await context.ok(command)


async def run_xlist(context: Context, command: Command) -> None:
    """XLIST: LIST with Gmail's attributes, for clients that know no other special use."""
    cursor = Cursor(command.arguments)
    question = Question(*read_plain(context, cursor))
    cursor.end()
    if question.asks_root:
        context.untagged(b'XLIST (\\Noselect) "/" ""')
    else:
        for folder in await context.mailbox.folders():
            await context.flush()
            if question.matches(folder.name):
                listed = attributes_of(folder)
                if folder.special_use is not None and folder.special_use in GMAIL:
                    listed[-1] = GMAIL[folder.special_use]
                if folder.name == INBOX:
                    listed.append(b"\\Inbox")
                context.untagged(b"XLIST (" + b" ".join(listed) + b') "/" ' + wire_name(context, folder.name))
    await context.ok(command)


def read_plain(context: Context, cursor: Cursor) -> tuple[list[Pattern], bool]:
    """Reference and pattern of LSUB and XLIST; whether only the separator is asked for."""
    reference = read_reference(context, cursor)
    return read_patterns(context, cursor, reference)


def read_reference(context: Context, cursor: Cursor) -> str:
    """The reference name with the space behind it; the pattern is simply put behind it."""
    reference = parse_mailbox_name(cursor.astring(), utf8=context.utf8)
    cursor.space()
    return reference


def read_patterns(context: Context, cursor: Cursor, reference: str) -> tuple[list[Pattern], bool]:
    """One pattern or a list of them."""
    if cursor.peek() == b"(":
        texts = cursor.items(cursor.list_mailbox, largest=MAX_PATTERNS)
    else:
        texts = [cursor.list_mailbox()]
    if texts == [b""]:
        return [], True
    return [read_pattern(context, reference, text) for text in texts], False


def read_pattern(context: Context, reference: str, text: bytes) -> Pattern:
    """A pattern behind its reference."""
    return Pattern(reference + parse_mailbox_name(text, utf8=context.utf8))


def read_question(context: Context, cursor: Cursor) -> Question:
    """Everything that LIST can be given. Raises `GrammarError`."""
    selections: frozenset[bytes] = frozenset()
    if cursor.peek() == b"(":
        selections = frozenset(cursor.items(cursor.keyword, empty=True))
        cursor.space()
    if not selections <= SELECTIONS or (b"RECURSIVEMATCH" in selections and not selections & _REAL_SELECTIONS):
        raise GrammarError("selection options")
    question = Question(*read_plain(context, cursor), selections)
    if cursor.skip(b" "):
        if not cursor.skip_word(b"RETURN"):
            raise GrammarError("RETURN expected")
        cursor.space()

        def option() -> bytes:
            word = cursor.keyword()
            if word == b"STATUS":
                cursor.space()
                question.status_items = read_items(cursor)
            return word

        question.returns = frozenset(cursor.items(option, empty=True))
    cursor.end()
    if not question.returns <= RETURNS:
        raise GrammarError("return options")
    return question


def candidates(table: FolderTable, question: Question) -> list[Listed]:
    """Names that the selection options leave, in the table's order; those without a folder come last."""
    names: list[tuple[str, Folder | None]] = [(folder.name, folder) for folder in table]
    if b"SUBSCRIBED" in question.selections:
        names += [(name, None) for name in sorted(table.subscriptions) if table.by_name(name) is None]

    def chosen(name: str, folder: Folder | None) -> bool:
        if b"SUBSCRIBED" in question.selections and name not in table.subscriptions:
            return False
        return b"SPECIAL-USE" not in question.selections or (folder is not None and folder.special_use is not None)

    recursive = b"RECURSIVEMATCH" in question.selections
    parents: set[str] = set()
    if recursive:
        for name, folder in names:
            if chosen(name, folder):
                parents.update(ancestors(name))
        known = {name for name, _ in names}
        names += [(name, None) for name in sorted(parents - known)]
    lines = []
    for name, folder in names:
        selected = chosen(name, folder)
        if selected or name in parents:
            lines.append(Listed(name, folder, name in table.subscriptions, selected, name in parents))
    return lines


def ancestors(name: str) -> list[str]:
    """``a`` and ``a/b`` for ``a/b/c``."""
    levels = name.split("/")
    return ["/".join(levels[:depth]) for depth in range(1, len(levels))]


def format_line(context: Context, question: Question, listed: Listed) -> bytes:
    """One LIST response."""
    attributes = [b"\\NonExistent"] if listed.folder is None else attributes_of(listed.folder)
    if listed.subscribed and b"SUBSCRIBED" in question.selections | question.returns:
        attributes.append(b"\\Subscribed")
    line = b"LIST (" + b" ".join(attributes) + b') "/" ' + wire_name(context, listed.name)
    if listed.child_selected and b"SUBSCRIBED" in question.selections:
        line += b' ("CHILDINFO" ("SUBSCRIBED"))'
    return line


async def tell_status(context: Context, question: Question, listed: Listed) -> None:
    """The STATUS behind a LIST response (RFC 5819); a folder that has gone meanwhile has none."""
    if question.status_items and listed.folder is not None:
        if b"HIGHESTMODSEQ" in question.status_items:
            context.enable_condstore()
        try:
            context.untagged(await status_line(context, listed.folder, question.status_items))
        except FolderMissing:
            return
