"""Wrong codes tried at guests: counted, and told to the sender who has the right one. Nobody is ever locked out.

They are counted in memory and written together, once a minute at most: whoever guesses must not have us commit as often
as he likes.
"""

from collections import Counter

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from certmaild.guests import code_texts
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.account_rows import read_account, read_credential
from certmaild.mailbox.errors import MailboxError
from certmaild.mailbox.guests import read_guest, write_guest
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.interfaces import Engine, ReadTxn, WriteTxn
from certmaild.mailbox.layout_accounts import PICKUP_ID
from certmaild.mailbox.layout_guests import GuestRow
from certmaild.outbound.interfaces import Work
from certmaild.protocols.transport import Clock
from certmaild.reports.service_mail import NotWritable, ServiceMail

log = Logger()

WARN_AT = 10
"""Wrong codes before the sender is warned."""
QUIET_S = 86_400
"""Between two warnings about one guest."""
WRITE_EACH_S = 60
AT_MOST = 4096
"""Guests whose wrong codes are counted at a time; what is tried at more is not."""


class Guesses:
    """Counts in one process; `note` is what the gatekeeper calls."""

    def __init__(self, engine: Engine, secrets: ServerSecrets, mail: ServiceMail, clock: Clock) -> None:
        self._engine = engine
        self._secrets = secrets
        self._mail = mail
        self._clock = clock
        self._counts: Counter[UserId] = Counter()
        self._written_s = 0.0
        self._writing = False
        self._each = LoopingCall(self._begin)
        self._each.clock = clock  # type: ignore[assignment]  # a Protocol stands for the zope interface

    def start(self) -> None:
        """Write what was counted, each minute."""
        self._each.start(WRITE_EACH_S, now=False)

    def stop(self) -> None:
        """Write no more."""
        if self._each.running:
            self._each.stop()

    def note(self, user_id: UserId) -> None:
        """A wrong code was tried at a guest who has one."""
        if user_id not in self._counts and len(self._counts) >= AT_MOST:
            return
        self._counts[user_id] += 1
        if self._counts[user_id] >= WARN_AT and self._clock.seconds() - self._written_s >= WRITE_EACH_S:
            self._begin()

    def _begin(self) -> None:
        if self._counts and not self._writing:
            self._writing = True
            Deferred.fromCoroutine(self._write()).addErrback(lambda why: log.failure("wrong codes not written", why))

    async def _write(self) -> None:
        self._written_s = self._clock.seconds()
        counts, self._counts = self._counts, Counter()
        now = int(self._clock.seconds())
        try:
            warnings = {user_id: await self._warning(user_id, count, now) for user_id, count in counts.items()}

            def work(txn: WriteTxn) -> None:
                for user_id, count in counts.items():
                    self._count(txn, user_id, count, warnings[user_id], now)

            await self._engine.write(work)
        except MailboxError:
            log.failure("wrong codes not written")
        finally:
            self._writing = False

    def _count(self, txn: WriteTxn, user_id: UserId, count: int, warning: Work | None, now: int) -> None:
        row = self._row(txn, user_id)
        if row is None:
            return
        if warning is not None and _is_due(row, count, now):
            warning(txn)
            write_guest(txn, self._secrets, user_id, msgspec.structs.replace(row, wrong_codes=0, warned_s=now))
        else:
            after = msgspec.structs.replace(row, wrong_codes=row.wrong_codes + count)
            write_guest(txn, self._secrets, user_id, after)

    async def _warning(self, user_id: UserId, count: int, now: int) -> Work | None:
        """What tells the sender, if it is time to."""
        row = await self._engine.read(lambda txn: self._row(txn, user_id))
        account = await self._engine.read(lambda txn: read_account(txn, self._secrets, user_id))
        if row is None or account is None or not row.inviter_id or not _is_due(row, count, now):
            return None
        letter = code_texts.guessed_letter(row.ordinary or account.address, row.wrong_codes + count)
        log.warn("wrong pickup codes were tried at {guest}", guest=user_id.hex(), count=row.wrong_codes + count)
        try:
            return (await self._mail.place(letter, UserId(bytes.fromhex(row.inviter_id)))).file
        except NotWritable:
            return None

    def _row(self, txn: ReadTxn, user_id: UserId) -> GuestRow | None:
        """The guest's row while he has a code."""
        has_code = read_credential(txn, user_id, PICKUP_ID) is not None
        return read_guest(txn, self._secrets, user_id) if has_code else None


def _is_due(row: GuestRow, count: int, now: int) -> bool:
    return row.wrong_codes + count >= WARN_AT and now - row.warned_s >= QUIET_S
