"""One message in Sent, though the server and the client both keep a copy of it (PROTOCOLS section 7).

Where ``sent = "server"`` a client may file its own copy all the same, before the server's is there or after it. Within
ten minutes of each other the client's stays: an APPEND expunges the server's copy, and a server's copy that is absorbed
behind the client's is let go. Both look inside the write transaction that adds their own, so one always sees the other.
"""

from collections.abc import Collection, Iterator, Sequence

from certmaild.mailbox import ownership
from certmaild.mailbox.account_rows import read_account
from certmaild.mailbox.blobs import find_facts
from certmaild.mailbox.cards import Card
from certmaild.mailbox.content import open_cards
from certmaild.mailbox.errors import MessageGone
from certmaild.mailbox.identifiers import BoxId
from certmaild.mailbox.interfaces import ReadTxn, RowSealer, WriteTxn
from certmaild.mailbox.layout_accounts import SentCopies
from certmaild.mailbox.messages import SLICE_PAGES, PreparedMessage, expunge_slice
from certmaild.mailbox.pages import Shelf, pages_back
from certmaild.mailbox.uidsets import ranges_of
from certmaild.mailbox.values import SERVER_COPY, Entry, SystemFlag

WINDOW_S = 600
MOST_COMPARED = 1000
"""Messages whose Message-ID is looked up, some 15 us each."""
_NO_MESSAGE_ID = bytes(8)


def message_id(references: Sequence[bytes]) -> bytes | None:
    """The hash of a message's own Message-ID among those of its card; None when it has none."""
    return references[0] if references and references[0] != _NO_MESSAGE_ID else None


def message_id_of(txn: ReadTxn, card: Card) -> bytes | None:
    """`message_id` of a card, also of one whose facts stand in the blob; None for one whose blob is gone."""
    if card.frame_octets:
        try:
            card.with_frame(find_facts(txn, card.blob, card.frame_octets))
        except MessageGone:
            return None
    return message_id(card.references)


def expunge_server_copies(
    txn: WriteTxn, shelf: Shelf, secrets: RowSealer, sent: BoxId, ids: Collection[bytes], now: int
) -> None:
    """Before a client's copies with these Message-IDs are added to Sent: remove the server's of the last ten minutes.

    Does nothing unless the account says that the server keeps copies.
    """
    account = read_account(txn, secrets, shelf.user_id) if ids else None
    if account is None or account.sent_copies is not SentCopies.SERVER:
        return
    uids = [
        entry.uid
        for entry in _recent(txn, shelf, sent, now - WINDOW_S, SERVER_COPY, SERVER_COPY)
        if abs(entry.internal_date - now) <= WINDOW_S and _message_id_at(txn, shelf, entry) in ids
    ]
    if uids:
        expunge_slice(txn, shelf, secrets, sent, ranges_of(sorted(uids)), now=now, only_deleted=False)


def without_client_copies(
    txn: WriteTxn,
    shelf: Shelf,
    secrets: RowSealer,
    sent: BoxId,
    copies: Sequence[tuple[PreparedMessage, bytes | None]],
    now: int,
) -> list[PreparedMessage]:
    """Of the server's copies about to be added to Sent, with their Message-IDs, those that no client has filed itself.

    The others are released: they never had a UID.
    """
    dates = [message.internal_date for message, own in copies if own is not None]
    if not dates:
        return [message for message, _ in copies]
    filed: dict[bytes, list[int]] = {}
    for entry in _recent(txn, shelf, sent, min(dates) - WINDOW_S, SERVER_COPY | SystemFlag.DELETED, 0):
        if entry.save_date <= max(dates) + WINDOW_S and (own := _message_id_at(txn, shelf, entry)) is not None:
            filed.setdefault(own, []).append(entry.save_date)
    staying = []
    for message, own in copies:
        if own is not None and any(abs(date - message.internal_date) <= WINDOW_S for date in filed.get(own, ())):
            ownership.release(txn, secrets, shelf.user_id, message.mid, now)
            ownership.refund(txn, secrets, shelf.user_id, message.size, 1)
        else:
            staying.append(message)
    return staying


def _recent(txn: ReadTxn, shelf: Shelf, box_id: BoxId, since: int, among: int, wanted: int) -> Iterator[Entry]:
    """Entries of the folder's last 64 pages that came into it at ``since`` or later and have, of the bits ``among``,
    just ``wanted``; the newest `MOST_COMPARED`, so that a folder being filled holds nobody up for long."""
    left = MOST_COMPARED
    for _, page in zip(range(SLICE_PAGES), pages_back(txn, shelf, box_id), strict=False):
        dates, flags = page.block.save_dates, page.block.flags
        if max(dates) < since:
            return
        for at in range(len(dates) - 1, -1, -1):
            if flags[at] & among == wanted and dates[at] >= since:
                yield page.block[at]
                left -= 1
                if not left:
                    return


def _message_id_at(txn: ReadTxn, shelf: Shelf, entry: Entry) -> bytes | None:
    (card,) = open_cards(txn, shelf.user_id, [(entry.mid, entry.mk)])
    return None if card is None else message_id_of(txn, card)
