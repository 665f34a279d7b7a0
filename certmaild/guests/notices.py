"""When guests are told at their ordinary addresses that mail waits for them.

The transaction that files a message notes who wrote, and when the guest is to hear of it; nothing is written to anybody
there, so many guests of one message cost it nothing more. `certmaild.guests.notice_round` writes what is due.
"""

from collections.abc import Callable

from msgspec import structs

from certmaild.config_values import Invites
from certmaild.guests.writers import with_writer
from certmaild.mailbox.account_rows import last_day
from certmaild.mailbox.guests import read_guest, set_notice_due
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.interfaces import RowSealer, WriteTxn
from certmaild.mailbox.layout_guests import GuestRow, WriterRow
from certmaild.outbound.interfaces import Work

DAY_S = 86_400
UNUSED_DAYS = 7
"""Whose devices have not come for so many days hears again."""
SETTLING_S = 600
"""A guest who has a device gets so long to fetch a message: one that is always connected may not have logged in for
weeks."""


def next_notice_s(row: GuestRow, last_used_day: int | None, now_s: int, invites: Invites) -> int:
    """When a guest for whom something waits may be told: now, or at a later second since 1970.

    ``last_used_day``: when any of his devices came last; None: none ever did.
    """
    at_s = now_s
    if row.noticed_s:
        at_s = max(at_s, row.noticed_s + invites.notice_quiet)
    if last_used_day is not None:
        # The row knows days: after the last one so many whole ones have to pass.
        at_s = max(at_s, (last_used_day + 1 + UNUSED_DAYS) * DAY_S)
    return at_s


class Notices:
    """Notes for whom a notice is due. ``invites`` is asked each time; ``seconds`` since 1970."""

    def __init__(self, secrets: RowSealer, invites: Callable[[], Invites], seconds: Callable[[], float]) -> None:
        self._secrets = secrets
        self._invites = invites
        self._seconds = seconds

    def noted(self, user_id: UserId, writer: WriterRow) -> Work:
        """What notes that somebody writes to a guest now, and sees to it that he hears of it in time.

        It runs in the transaction that files the message, after the rows of a new guest are written, and changes the
        guest's row. Of no effect for who is no guest; may run twice.
        """
        now_s, invites = int(self._seconds()), self._invites()

        def work(txn: WriteTxn) -> None:
            row = read_guest(txn, self._secrets, user_id)
            if row is None:
                return
            due_s = row.notice_due_s
            if not due_s:
                day = last_day(txn, self._secrets, user_id)
                due_s = next_notice_s(row, day, now_s + (0 if day is None else SETTLING_S), invites)
            row = structs.replace(row, writers=with_writer(row.writers, structs.replace(writer, at_s=now_s)))
            set_notice_due(txn, self._secrets, user_id, row, due_s)

        return work
