"""Pickup codes that nobody has used die, and the message that shows one is replaced: by whoever works the queue."""

import msgspec

from certmaild.guests import code_texts
from certmaild.guests.pickup import answer_renews
from certmaild.guests.retelling import retold
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox import account_rows, audit_log
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.guests import read_guest, write_guest
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.interfaces import Engine, ReadTxn, WriteTxn
from certmaild.mailbox.layout_accounts import PICKUP_ID, Account
from certmaild.mailbox.layout_guests import AuditRow, GuestRow
from certmaild.mailbox.layout_queue import Due
from certmaild.mailbox.queue import Queue
from certmaild.outbound.due_round import DueRound
from certmaild.protocols.transport import Clock
from certmaild.reports.service_mail import ServiceMail

LOOK_EACH_S = 600
"""The code itself is refused from its last second on; this is for the message."""


class CodeExpiry(DueRound):
    """From `start` to `stop` codes expire."""

    def __init__(self, engine: Engine, secrets: ServerSecrets, mail: ServiceMail, clock: Clock) -> None:
        super().__init__(engine, clock, Due.CODE, self._end, each_s=lambda: LOOK_EACH_S)
        self._secrets = secrets
        self._mail = mail

    async def _end(self, at_s: int, what: bytes) -> None:
        """End the code that dies then, if it is still the guest's and he has not used it."""
        user_id, now = UserId(what), int(self._clock.seconds())
        row, account = await self._engine.read(lambda txn: self._guest(txn, user_id))
        told = None
        if row is not None and account is not None and _dies(row, at_s):
            letter = code_texts.expired_letter(row.ordinary or account.address)
            told = await retold(self._mail, row, answer_renews(letter, user_id, row.inviter))

        def work(txn: WriteTxn) -> None:
            found, _ = self._guest(txn, user_id)
            if found is not None and account is not None and told is not None and _dies(found, at_s):
                if row is None or found.pickup_mid != row.pickup_mid:
                    return
                account_rows.delete_credential(txn, user_id, PICKUP_ID)
                told(txn)
                after = msgspec.structs.replace(found, code_expires_s=0, pickup_mid="")
                write_guest(txn, self._secrets, user_id, after)
                audit = AuditRow(at_s=now, by="server", act="code expired", whom=account.address)
                audit_log.note(txn, self._secrets, audit)
                txn.announce(Change(ChangeKind.ACCOUNT, user_id))
            Queue.undue(txn, Due.CODE, at_s, user_id)

        await self._engine.write(work)

    def _guest(self, txn: ReadTxn, user_id: UserId) -> tuple[GuestRow | None, Account | None]:
        return read_guest(txn, self._secrets, user_id), account_rows.read_account(txn, self._secrets, user_id)


def _dies(row: GuestRow, at_s: int) -> bool:
    return row.code_expires_s == at_s and not row.opened_s and not row.joined_s
