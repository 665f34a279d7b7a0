"""FETCH and UID FETCH (RFC 9051 section 6.4.5, RFC 3516, RFC 7162)."""

from array import array
from collections.abc import Sequence
from dataclasses import replace

from certmaild.mailbox.cards import Card
from certmaild.mailbox.pages import cut
from certmaild.mailbox.values import EntryBlock, FlagOp, Flags, SystemFlag
from certmaild.protocols.imap.bodies import BodyWriter
from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.errors import No
from certmaild.protocols.imap.fetch_plan import Plan, Slice
from certmaild.protocols.imap.grammar.fetch_items import Fact, FetchProgram, parse_fetch
from certmaild.protocols.imap.grammar.tokens import Cursor
from certmaild.protocols.imap.sections import HEADER_LIMIT
from certmaild.protocols.imap.sets import choose, numbers_of
from certmaild.protocols.imap.wire import GONE_TEXT, FlagTexts, learn_keywords, pick, update_keywords

CARDS_AT_ONCE = 64
"""Messages whose cards are opened and written between two looks at the reactor (about 1 ms)."""

HEADERS_AT_ONCE = 32
"""Messages of which cards and headers are opened together."""


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
    await fetch.finish()
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
        self._items = self._plan.ready
        self._rows = context.mailbox.ready_rows(self._view.box_id, [item.kind for item in self._items])

    async def tell(self, block: EntryBlock) -> None:
        """Answer for the messages of a block (of one page), in slices that leave the reactor its turns."""
        if self._plan.all_ready:
            await self._tell_ready(block)
            return
        step = CARDS_AT_ONCE if self._plan.needs_cards else len(block)
        for at in range(0, len(block), step):
            await self._tell_slice(block if len(block) <= step else cut(block, at, at + step))
            await self._context.flush()

    async def finish(self) -> None:
        """All blocks are told."""
        await self._rows.finish()

    async def _tell_ready(self, block: EntryBlock) -> None:
        """Where all values are of kinds that are kept: read them, make what is missing, keep it for the next time."""
        values = await self._rows.read(block.uids)
        missing = [at for at in range(len(block)) if any(column[at] is None for column in values)]
        for at in range(0, len(missing), HEADERS_AT_ONCE):
            await self._make(block, missing[at : at + HEADERS_AT_ONCE], values)
            await self._context.flush()
        there = [at for at in range(len(block)) if all(column[at] is not None for column in values)]
        columns = [[value for at in there if (value := column[at]) is not None] for column in values]
        if len(there) < len(block):
            block = pick(block, there)
        elif missing:
            await self._rows.keep(block.uids, columns, len(missing))
        await self._tell_block(block, [], columns, frozenset())
        await self._context.flush()

    async def _make(self, block: EntryBlock, places: Sequence[int], values: Sequence[list[bytes | None]]) -> None:
        """Fill in the values at these places; what is gone stays None."""
        mailbox = self._context.mailbox
        found = await mailbox.cards(pick(block, places) if len(places) < len(block) else block)
        cards = [(at, card) for at, card in zip(places, found, strict=True) if card is not None]
        deep = []
        for at, card in cards:
            if any(item.reads_header(card) for item in self._items):
                deep.append((at, card))
            else:
                self._fill(values, at, card, b"")
        while deep:
            headers = await mailbox.headers([card for _, card in deep], HEADER_LIMIT)
            for (at, card), header in zip(deep, headers, strict=False):
                if header is not None:
                    self._fill(values, at, card, header)
            deep = deep[len(headers) :]

    def _fill(self, values: Sequence[list[bytes | None]], at: int, card: Card, header: bytes) -> None:
        for item, column in zip(self._items, values, strict=True):
            column[at] = item.value(card, header)

    async def _tell_slice(self, block: EntryBlock) -> None:
        cards: list[Card] = []
        if self._plan.needs_cards:
            found = await self._context.mailbox.cards(block)
            cards = [card for card in found if card is not None]
            if len(cards) != len(found):
                block = pick(block, [at for at, card in enumerate(found) if card is not None])
        seen: frozenset[int] = frozenset()
        if self._sets_seen:
            block, seen = await self._set_seen(block)
        values = [[item.value(card, b"") for card in cards] for item in self._items]
        await self._tell_block(block, cards, values, seen)

    async def _tell_block(
        self, block: EntryBlock, cards: list[Card], values: Sequence[Sequence[bytes]], seen: frozenset[int]
    ) -> None:
        numbers = numbers_of(self._view, block.uids)
        if self._plan.tells_flags or seen:
            await learn_keywords(self._context, block)
            flags = self._texts.of(block)
            self._note_told(block, seen)
        else:
            flags = []
        part = Slice(numbers, block, flags, cards, values)
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
                self._context.separate()
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
