"""FETCH responses that tell flags: STORE's answers, and the flags columns of FETCH."""

from array import array
from collections.abc import Iterator, Sequence

from certmaild.mailbox.values import SYSTEM_FLAGS, EntryBlock
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.flags import format_flags
from certmaild.protocols.imap.sets import numbers_of
from certmaild.protocols.imap.view import SelectedView

GONE_TEXT = b"Some of the messages no longer exist."


class FlagTexts:
    """Parenthesised flag lists of a folder, each combination made once."""

    __slots__ = ("_known", "_names", "_recent", "_view")

    def __init__(self, view: SelectedView, *, recent: bool) -> None:
        self._view = view
        self._names = view.keywords
        self._recent = recent and view.recent_count > 0
        self._known: dict[tuple[int, int, bool], bytes] = {}

    def of(self, block: EntryBlock) -> list[bytes]:
        """One list for each entry of the block."""
        if self._names is not self._view.keywords:
            self._names = self._view.keywords
            self._known.clear()
        if self._recent:
            is_recent = self._view.is_recent
            recent: Sequence[bool] = [is_recent(uid) for uid in block.uids]
        else:
            recent = (False,) * len(block)
        return [self._text(*facts) for facts in zip(block.flags, block.keywords, recent, strict=True)]

    def _text(self, flags: int, keywords: int, recent: bool) -> bytes:
        key = flags & SYSTEM_FLAGS, keywords, recent
        text = self._known.get(key)
        if text is None:
            text = self._known[key] = format_flags(flags, keywords, self._names, recent=recent)
        return text


def update_keywords(context: Context, names: tuple[str, ...]) -> None:
    """Tell FLAGS and PERMANENTFLAGS anew if a keyword came up."""
    view = context.view
    if names != view.keywords:
        view.keywords = names
        context.tell_flags()


async def learn_keywords(context: Context, block: EntryBlock) -> None:
    """Before flags are told: names of keywords that came up since the last time."""
    if any(block.keywords) and max(block.keywords) >> len(context.view.keywords):
        update_keywords(context, (await context.mailbox.folders()).keywords)


def flag_responses(context: Context, block: EntryBlock, *, by_uid: bool, modseq_only: bool = False) -> Iterator[bytes]:
    """``FETCH`` with FLAGS (or only MODSEQ) for each entry, and notes that the client knows them.

    UID is told if ``by_uid``, MODSEQ where CONDSTORE is enabled.
    """
    view = context.view
    texts = FlagTexts(view, recent=not context.rev2).of(block)
    rows = zip(numbers_of(view, block.uids), block.uids, texts, block.modseqs, strict=True)
    for number, uid, text, modseq in rows:
        view.note_own_change(uid, modseq)
        if not number:
            continue
        facts = [b"UID %d" % uid] if by_uid else []
        if not modseq_only:
            facts.append(b"FLAGS " + text)
        if context.condstore:
            facts.append(b"MODSEQ (%d)" % modseq)
        yield b"* %d FETCH (" % number + b" ".join(facts) + b")\r\n"


def pick(block: EntryBlock, places: Sequence[int]) -> EntryBlock:
    """Some entries of a block, by place."""
    columns = (
        array(column.typecode, [column[at] for at in places])
        for column in (block.flags, block.keywords, block.modseqs, block.internal_dates, block.sizes, block.save_dates)
    )
    return EntryBlock(
        array("I", [block.uids[at] for at in places]),
        b"".join([block.mids[16 * at : 16 * at + 16] for at in places]),
        b"".join([block.mks[32 * at : 32 * at + 32] for at in places]),
        *columns,
    )
