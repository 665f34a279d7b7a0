"""FETCH and UID FETCH (RFC 9051 section 6.4.5, RFC 3516, RFC 7162)."""

from array import array
from dataclasses import replace

from certmaild.mailbox.cards import Card
from certmaild.mailbox.values import EntryBlock, FlagOp, Flags, SystemFlag
from certmaild.protocols.imap.bodies import BodyWriter
from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.errors import No
from certmaild.protocols.imap.fetch_plan import Plan, Slice
from certmaild.protocols.imap.grammar.fetch_items import Fact, FetchProgram, parse_fetch
from certmaild.protocols.imap.grammar.tokens import Cursor
from certmaild.protocols.imap.sets import choose, numbers_of
from certmaild.protocols.imap.wire import GONE_TEXT, FlagTexts, learn_keywords, pick, update_keywords

CARDS_AT_ONCE = 64
"""Messages whose cards are opened and written between two looks at the reactor (about 1 ms)."""


async def run(context: Context, command: Command) -> None:
    """Send what is asked for, message by message, as the client takes it; never a whole list in memory."""
    cursor = Cursor(command.arguments)
    numbers = cursor.sequence()
    cursor.space()
    program = parse_fetch(cursor)
    view = context.view
    chosen = choose(view, numbers, by_uid=command.by_uid)
    if program.changed_since is not None or Fact.MODSEQ in program.items:
        context.enable_condstore()
    if not chosen:
        await context.ok(command)
        return
    fetch = Fetch(context, program, by_uid=command.by_uid)
    async for block in context.mailbox.entries(view.box_id, chosen.uids, changed_since=program.changed_since):
        await fetch.tell(block)
    gone = program.changed_since is None and fetch.told < chosen.count
    if gone and not command.by_uid:
        await context.sync(expunge=False)
        raise No(GONE_TEXT, b"EXPUNGEISSUED")
    await context.ok(command)


class Fetch:
    """One FETCH under way."""

    def __init__(self, context: Context, program: FetchProgram, *, by_uid: bool) -> None:
        self.told = 0
        """Messages answered."""
        self._context = context
        self._view = context.view
        self._plan = Plan(program, by_uid=by_uid, utf8=context.utf8)
        self._texts = FlagTexts(self._view, recent=not context.rev2)
        self._sets_seen = self._plan.sets_seen and not self._view.read_only
        self._bodies = BodyWriter(context, self._plan.bodies)
        self._separate = self._plan.needs_cards

    async def tell(self, block: EntryBlock) -> None:
        """Answer for the messages of a block, in slices that leave the reactor its turns."""
        step = CARDS_AT_ONCE if self._plan.needs_cards else len(block)
        for at in range(0, len(block), step):
            await self._tell_slice(block if len(block) <= step else cut(block, at, at + step))
            await self._context.flush()

    async def _tell_slice(self, block: EntryBlock) -> None:
        cards: list[Card] = []
        if self._plan.needs_cards:
            found = await self._context.mailbox.cards(block)
            cards = [card for card in found if card is not None]
            if len(cards) != len(found):
                block = pick(block, [at for at, card in enumerate(found) if card is not None])
        numbers = numbers_of(self._view, block.uids)
        seen: frozenset[int] = frozenset()
        if self._sets_seen:
            block, seen = await self._set_seen(block)
        if self._plan.tells_flags or seen:
            await learn_keywords(self._context, block)
            flags = self._texts.of(block)
            self._note_told(block, seen)
        else:
            flags = []
        part = Slice(numbers, block, flags, cards)
        if self._plan.bodies:
            await self._tell_bodies(part, seen)
        else:
            self._tell_rows(part)

    def _note_told(self, block: EntryBlock, seen: frozenset[int]) -> None:
        """The client is told these flags: not again before the tagged OK."""
        view = self._view
        since = view.modseq
        for uid, modseq in zip(block.uids, block.modseqs, strict=True):
            if modseq > since and (self._plan.tells_flags or uid in seen):
                view.note_own_change(uid, modseq)

    def _tell_rows(self, part: Slice) -> None:
        """Everything but octets of bodies: one line a message."""
        lines = self._plan.lines(part)
        self.told += len(lines)
        write = self._context.write
        if self._separate and self._context.wire.compressing:
            for line in lines:
                write(line)
                self._context.wire.separate()
        else:
            write(b"".join(lines))

    async def _tell_bodies(self, part: Slice, seen: frozenset[int]) -> None:
        heads = self._plan.lines(part)
        for at, (card, head) in enumerate(zip(part.cards, heads, strict=True)):
            tail = b")\r\n"
            uid = part.block.uids[at]
            if uid in seen and not self._plan.tells_flags:
                tail = b" FLAGS " + part.flags[at] + tail
                if self._context.condstore and not self._plan.tells_modseq:
                    tail = b" MODSEQ (%d)" % part.block.modseqs[at] + tail
            if await self._bodies.tell(card, head, tail):
                self.told += 1

    async def _set_seen(self, block: EntryBlock) -> tuple[EntryBlock, frozenset[int]]:
        r"""Set ``\Seen`` where it is missing: the block as it then is, and the UIDs that changed."""
        unseen = [uid for uid, flags in zip(block.uids, block.flags, strict=True) if not flags & SystemFlag.SEEN]
        if not unseen:
            return block, frozenset()
        result = await self._context.mailbox.store_flags(
            self._view.box_id, [range(uid, uid + 1) for uid in unseen], FlagOp.ADD, Flags(int(SystemFlag.SEEN))
        )
        update_keywords(self._context, result.keywords)
        now = result.entries
        facts = dict(zip(now.uids, zip(now.flags, now.keywords, now.modseqs, strict=True), strict=True))
        old = zip(block.flags, block.keywords, block.modseqs, strict=True)
        rows = [facts.get(uid, row) for uid, row in zip(block.uids, old, strict=True)]
        flags, keywords, modseqs = zip(*rows, strict=True)
        changed = replace(block, flags=array("H", flags), keywords=array("Q", keywords), modseqs=array("Q", modseqs))
        return changed, result.changed


def cut(block: EntryBlock, low: int, high: int) -> EntryBlock:
    """A run of the entries of a block."""
    return EntryBlock(
        block.uids[low:high],
        block.mids[16 * low : 16 * high],
        block.mks[32 * low : 32 * high],
        block.flags[low:high],
        block.keywords[low:high],
        block.modseqs[low:high],
        block.internal_dates[low:high],
        block.sizes[low:high],
        block.save_dates[low:high],
    )
