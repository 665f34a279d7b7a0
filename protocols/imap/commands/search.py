"""SEARCH and UID SEARCH (RFC 9051 section 6.4.4, RFC 4731, RFC 5182, RFC 7162 section 3.1.5)."""

from bisect import bisect_left
from collections.abc import Sequence

from certmaild.mailbox.search import All, SearchKey
from certmaild.mailbox.uidsets import ranges_of
from certmaild.mailbox.values import UidSet
from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import UTF8_ACCEPT, Context
from certmaild.protocols.imap.errors import Bad, No
from certmaild.protocols.imap.grammar.search_program import (
    CHARSETS,
    BadCharset,
    CharsetForbidden,
    SearchProgram,
    SearchReturn,
    parse_search,
)
from certmaild.protocols.imap.grammar.sequence_sets import format_sequence_set
from certmaild.protocols.imap.grammar.tokens import Cursor, quote
from certmaild.protocols.imap.progress import InProgress
from certmaild.protocols.imap.sets import choose, numbers_of
from certmaild.protocols.imap.view import SelectedView

NUMBERS_AT_ONCE = 4096
_WHOLE = frozenset((SearchReturn.ALL, SearchReturn.COUNT))
_ENDS = frozenset((SearchReturn.MIN, SearchReturn.MAX))


class ViewScope:
    """What only the session knows, made into UIDs for the search program."""

    def __init__(self, view: SelectedView) -> None:
        self._view = view

    def uids_of_numbers(self, text: bytes) -> UidSet:
        """By sequence number; those beyond the last match nothing."""
        return choose(self._view, text, by_uid=False, strict=False).uids

    def uids_of_uids(self, text: bytes) -> UidSet:
        """By UID."""
        return choose(self._view, text, by_uid=True).uids

    def recent(self) -> UidSet:
        r"""``\Recent`` for this session."""
        return self._view.recent


async def run(context: Context, command: Command) -> None:
    """Find messages; answers with SEARCH, or with ESEARCH where RETURN was given or IMAP4rev2 is enabled."""
    view = context.view
    program = _parse(context, command, view)
    returned = program.returned
    saves = returned is not None and SearchReturn.SAVE in returned
    if program.uses_modseq:
        context.enable_condstore()
    try:
        found, highest = await _find(context, command, view, program.key)
    except Exception:
        if saves:
            view.saved_search = ()
        raise
    if context.selected is not view:
        raise Bad(b"The mailbox is no longer selected.")
    if returned is not None and not returned & _WHOLE and returned & _ENDS:
        found = _ends(found, returned)
        if program.uses_modseq:
            highest = (await context.mailbox.find(view.box_id, All(), uids=ranges_of(found))).highest_modseq
    if saves:
        view.saved_search = ranges_of(found)
    modseq = highest if program.uses_modseq and found else None
    numbers = found if command.by_uid else [number for number in numbers_of(view, found) if number]
    if returned is None and not context.rev2:
        await _tell_search(context, numbers, modseq)
    else:
        _tell_esearch(context, command, returned or frozenset((SearchReturn.ALL,)), numbers, modseq)
    await context.ok(command)


def _parse(context: Context, command: Command, view: SelectedView) -> SearchProgram:
    cursor = Cursor(command.arguments)
    try:
        return parse_search(cursor, ViewScope(view), charset_allowed=UTF8_ACCEPT not in context.enabled)
    except BadCharset as bad:
        if bad.saves:
            view.saved_search = ()
        known = b" ".join(CHARSETS)
        raise No(b"This charset is not known.", b"BADCHARSET (" + known + b")") from None
    except CharsetForbidden:
        raise Bad(b"CHARSET may not be used after ENABLE UTF8=ACCEPT.", b"CLIENTBUG") from None


async def _find(context: Context, command: Command, view: SelectedView, key: SearchKey) -> tuple[Sequence[int], int]:
    """UIDs that this view has, ascending, and the highest mod-sequence among them; INPROGRESS if it takes long."""
    if not len(view):
        return [], 0
    wanted = (range(view.uids[0], view.largest_uid + 1),)
    with InProgress(context, command, len(view)) as progress:

        async def between(uid: int) -> None:
            progress.done = bisect_left(view.uids, uid)
            await context.flush()

        result = await context.mailbox.find(view.box_id, key, uids=wanted, between=between)
    return result.uids, result.highest_modseq


def _ends(found: Sequence[int], returned: frozenset[SearchReturn]) -> list[int]:
    """The first, the last or both: what MIN and MAX alone find, and save (RFC 5182 section 2.1)."""
    if not found:
        return []
    ends = []
    if SearchReturn.MIN in returned:
        ends.append(found[0])
    if SearchReturn.MAX in returned and found[-1] not in ends:
        ends.append(found[-1])
    return ends


async def _tell_search(context: Context, numbers: Sequence[int], modseq: int | None) -> None:
    """One SEARCH response, written in pieces."""
    context.write(b"* SEARCH")
    for at in range(0, len(numbers), NUMBERS_AT_ONCE):
        some = numbers[at : at + NUMBERS_AT_ONCE]
        context.write(b" %d" * len(some) % tuple(some))
        await context.flush()
    context.write(b" (MODSEQ %d)\r\n" % modseq if modseq is not None else b"\r\n")


def _tell_esearch(
    context: Context,
    command: Command,
    returned: frozenset[SearchReturn],
    numbers: Sequence[int],
    modseq: int | None,
) -> None:
    """ESEARCH; nothing at all when only SAVE was asked for."""
    if returned == {SearchReturn.SAVE}:
        return
    parts = [b"ESEARCH (TAG " + quote(command.tag) + b")"]
    if command.by_uid:
        parts.append(b"UID")
    if numbers:
        if SearchReturn.MIN in returned:
            parts.append(b"MIN %d" % numbers[0])
        if SearchReturn.MAX in returned:
            parts.append(b"MAX %d" % numbers[-1])
        if SearchReturn.ALL in returned:
            parts.append(b"ALL " + format_sequence_set(numbers))
    if SearchReturn.COUNT in returned:
        parts.append(b"COUNT %d" % len(numbers))
    if modseq is not None:
        parts.append(b"MODSEQ %d" % modseq)
    context.untagged(b" ".join(parts))
