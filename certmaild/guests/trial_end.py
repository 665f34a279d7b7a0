"""Mailboxes on trial end, by whoever works the queue: told three days before, then removed with all that is in them."""

from dataclasses import dataclass

import msgspec
from twisted.logger import Logger

from certmaild.guests import trial_texts
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox import audit_log
from certmaild.mailbox.account_rows import read_account
from certmaild.mailbox.guests import read_guest, write_guest
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.interfaces import Engine, ReadTxn, WriteTxn
from certmaild.mailbox.layout_accounts import Account, Role, State
from certmaild.mailbox.layout_guests import AuditRow, GuestRow
from certmaild.mailbox.layout_queue import Due
from certmaild.mailbox.queue import Queue
from certmaild.mailbox.removal import remove_user
from certmaild.mailbox.trials import end_trial, note_trial_due
from certmaild.outbound.due_round import DueRound
from certmaild.outbound.interfaces import Work
from certmaild.protocols.transport import Clock
from certmaild.reports.service_mail import NotWritable, ServiceMail

log = Logger()

LOOK_EACH_S = 600


@dataclass(frozen=True, slots=True)
class _View:
    row: GuestRow
    account: Account

    def is_over(self, now: int) -> bool:
        """Whether there is nothing left but to remove it."""
        return self.account.state is State.PARKED or now >= self.row.trial_until_s


class TrialEnds(DueRound):
    """From `start` to `stop` trials end."""

    def __init__(self, engine: Engine, secrets: ServerSecrets, mail: ServiceMail, clock: Clock) -> None:
        super().__init__(engine, clock, Due.TRIAL, self._end, each_s=lambda: LOOK_EACH_S)
        self._secrets = secrets
        self._mail = mail

    def _now(self) -> int:
        return int(self._clock.seconds())

    async def _end(self, at_s: int, what: bytes) -> None:
        """The time goes out of the index last: who is killed before looks again."""
        user_id, now = UserId(what), self._now()
        view = await self._engine.read(lambda txn: self._view(txn, user_id))
        if view is not None and view.is_over(now):
            await self._remove(user_id, now)
        elif view is not None and not view.row.trial_told_s:
            await self._tell(user_id, view, now)
        again_s = 0 if view is None or view.is_over(now) else view.row.trial_until_s

        def work(txn: WriteTxn) -> None:
            Queue.undue(txn, Due.TRIAL, at_s, user_id)
            if again_s:
                note_trial_due(txn, user_id, again_s)

        await self._engine.write(work)

    def _view(self, txn: ReadTxn, user_id: UserId) -> _View | None:
        row, account = read_guest(txn, self._secrets, user_id), read_account(txn, self._secrets, user_id)
        if row is None or account is None or not row.trial_until_s or account.role is not Role.GUEST:
            return None
        return _View(row, account)

    async def _remove(self, user_id: UserId, now: int) -> None:
        """End it where that is not done, then remove what it held."""

        def work(txn: WriteTxn) -> None:
            view = self._view(txn, user_id)
            if view is not None and end_trial(txn, self._secrets, user_id, now):
                note = AuditRow(at_s=now, by=audit_log.SERVER, act="trial ended", whom=view.account.address)
                audit_log.note(txn, self._secrets, note)

        await self._engine.write(work)
        await remove_user(self._engine, self._secrets, user_id, self._now)

    async def _tell(self, user_id: UserId, view: _View, now: int) -> None:
        letter = trial_texts.ending_letter(view.account.address, view.row.trial_until_s, self._mail.name.domain)
        filed: Work = _nothing
        try:
            filed = (await self._mail.place(letter, user_id)).file
        except NotWritable:
            log.info("nobody reads that the trial of {guest} ends", guest=user_id.hex())

        def work(txn: WriteTxn) -> None:
            row = read_guest(txn, self._secrets, user_id)
            if row is not None and not row.trial_told_s:
                write_guest(txn, self._secrets, user_id, msgspec.structs.replace(row, trial_told_s=now))
                filed(txn)

        await self._engine.write(work, grows=True)


def _nothing(txn: WriteTxn) -> None:
    """No letter."""
