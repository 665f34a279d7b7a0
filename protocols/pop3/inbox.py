"""INBOX as a POP3 session uses it: listed at log-in, read message by message, and cleared at QUIT."""

from collections.abc import AsyncIterator

from twisted.logger import Logger

from certmaild.keystore.errors import KeysClosed
from certmaild.mailbox.errors import MailboxError, MessageGone
from certmaild.mailbox.identifiers import BoxId
from certmaild.mailbox.opened import OpenMailbox
from certmaild.mailbox.values import COPIED_WITHIN, NO_FINAL_CRLF, FlagOp, Flags, SystemFlag
from certmaild.protocols.pop3.grammar import LineLimit, Stuffer
from certmaild.protocols.pop3.maildrop import Maildrop

log = Logger()

PIECE_OCTETS = 256 * 1024
"""The most that is read of a message at once."""
_ALL = (range(1, 1 << 32),)


class Inbox:
    """One user's INBOX. What the mailbox raises comes through; `MessageGone` for a message expunged meanwhile."""

    def __init__(self, mailbox: OpenMailbox, session: int) -> None:
        self._mailbox = mailbox
        self._session = session
        self._box_id: BoxId | None = None

    async def list_messages(self) -> Maildrop:
        """The messages as of now; none where there is no INBOX. Call it first."""
        maildrop = Maildrop()
        inbox = (await self._mailbox.folders()).by_name("INBOX")
        if inbox is None:
            return maildrop
        self._box_id = inbox.box_id
        async for block in self._mailbox.entries(inbox.box_id, _ALL):
            for entry in block:
                maildrop.add(
                    entry.uid,
                    entry.mid,
                    entry.size,
                    final_crlf=not entry.flags & NO_FINAL_CRLF,
                    is_copy=bool(entry.flags & COPIED_WITHIN),
                )
        return maildrop

    def _box(self) -> BoxId:
        if self._box_id is None:
            raise MessageGone
        return self._box_id

    async def retrieve(self, maildrop: Maildrop, index: int, lines: int | None) -> AsyncIterator[bytes]:
        """The answer to RETR, or to TOP with ``lines``, in pieces; what fails before the first can still be answered.

        RETR sets ``\\Seen`` behind the last piece if the account says so.
        """
        uid = maildrop.uids[index]
        card, seen = None, True
        async for block in self._mailbox.entries(self._box(), [range(uid, uid + 1)]):
            card, seen = await self._mailbox.card(block[0]), bool(block.flags[0] & SystemFlag.SEEN)
        if card is None:
            raise MessageGone
        content = self._mailbox.content(card)
        limit = None if lines is None else LineLimit(content.prefix + card.header_octets, lines)
        piece = await content.read(0, PIECE_OCTETS)
        yield b"+OK %d octets\r\n" % maildrop.sizes[index] if lines is None else b"+OK\r\n"
        stuffer, offset, more = Stuffer(), 0, True
        while piece and more:
            offset += len(piece)
            if limit is not None:
                piece, more = limit.feed(piece)
            yield stuffer.feed(piece)
            piece = await content.read(offset, PIECE_OCTETS) if more else b""
        yield stuffer.finish()
        if lines is None and not (seen or maildrop.read_only):
            await self._mark_seen(uid)

    async def _mark_seen(self, uid: int) -> None:
        r"""Set ``\Seen`` if the account says that RETR does. The message is sent: what fails here ends nothing."""
        try:
            if await self._mailbox.retrieve_marks_seen():
                seen = Flags(SystemFlag.SEEN)
                await self._mailbox.store_flags(self._box(), [range(uid, uid + 1)], FlagOp.ADD, seen)
        except (MailboxError, KeysClosed):
            log.failure("message could not be marked as seen", session=self._session)

    async def remove(self, uids: list[int]) -> None:
        """Remove these messages (RFC 1939 section 6)."""
        if uids:
            ranges = [range(uid, uid + 1) for uid in uids]
            await self._mailbox.store_flags(self._box(), ranges, FlagOp.ADD, Flags(SystemFlag.DELETED))
            await self._mailbox.expunge(self._box(), ranges)
