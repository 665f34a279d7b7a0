"""What becomes of a guest when he comes in: by the code, then by a password of his own; and of whoever has lost his.

The first session finds a message with a password and a recovery code. The first use of that password kills the code and
brings in what was kept out of sight until then. A recovery code is answered with a new password in the folder Devices.
"""

from dataclasses import replace

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from certmaild.guests import code_texts
from certmaild.guests.retelling import nothing, retold
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox import account_rows, audit_log, ways_in
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.clients import network_of
from certmaild.mailbox.devices import note_made
from certmaild.mailbox.folders import INBOX, read_rows
from certmaild.mailbox.guests import read_guest, write_bequest, write_guest
from certmaild.mailbox.identifiers import CredentialId, Mid, UserId
from certmaild.mailbox.interfaces import Engine, ReadTxn, WriteTxn
from certmaild.mailbox.layout_accounts import PICKUP_ID, Kind, Option
from certmaild.mailbox.layout_guests import AuditRow, GuestRow, Service, ServiceRow
from certmaild.mailbox.opened import OpenMailbox
from certmaild.mailbox.ownership import read_own
from certmaild.mailbox.pages import PageCache, Shelf
from certmaild.mailbox.pool import MailboxPool
from certmaild.mailbox.service_marks import marks_of, write_mark
from certmaild.mailbox.uidsets import ALL_UIDS
from certmaild.mailbox.values import ServiceFolder
from certmaild.mailbox.ways_in import NewCode
from certmaild.outbound.interfaces import Work
from certmaild.protocols.interfaces import ClientId, Login
from certmaild.protocols.interfaces import Service as Protocol
from certmaild.protocols.transport import Clock
from certmaild.reports.service_mail import ServiceMail

log = Logger()

SETTLING_S = 2.0
"""How long a guest's first log-in of his own waits for what was out of sight; the rest comes while he is there."""
TRIES = 5
"""How often something is prepared again because the guest's row changed meanwhile."""
RECOVERED = "recovered"
"""In the place of a mark's digest: the password was made for a recovery code."""


class FirstSession:
    """A `ClientWatch`. What fails here is logged and done at the next log-in: it keeps nobody from his mail."""

    def __init__(
        self, engine: Engine, secrets: ServerSecrets, mail: ServiceMail, mailboxes: MailboxPool, clock: Clock
    ) -> None:
        self._engine = engine
        self._secrets = secrets
        self._mail = mail
        self._mailboxes = mailboxes
        self._clock = clock

    async def entered(self, login: Login, service: Protocol, peer: str) -> None:
        """See `ClientWatch.entered`: what is to be found in the mailbox is there when this returns."""
        try:
            if login.kind is Kind.PICKUP:
                await self.opened(login)
            elif login.kind is Kind.RECOVERY:
                await self.recovered(login, peer)
            else:
                await self._by_his_own(login)
        except Exception:
            log.failure("after the log-in of {user}", user=login.user_id.hex())

    async def told(self, login: Login, client_id: ClientId, peer: str) -> None:
        """See `ClientWatch.told`: nothing to do."""

    def _now(self) -> int:
        return int(self._clock.seconds())

    async def _guest(self, user_id: UserId) -> GuestRow | None:
        secrets = self._secrets
        return await self._engine.read(lambda txn: read_guest(txn, secrets, user_id))

    # By the pickup code.

    async def opened(self, login: Login) -> None:
        """The first log-in with the code: a password and a recovery code, in one message and one transaction.

        Done once, however many log in at once. Raises `StoreUnavailable`.
        """
        for _ in range(TRIES):
            row = await self._guest(login.user_id)
            if row is None or row.opened_s or await self._open(login, row):
                return

    async def _open(self, login: Login, row: GuestRow) -> bool:
        """False when the guest's row is no longer this one; nothing was done then."""
        user_id, now, secrets = login.user_id, self._now(), self._secrets
        taken = await self._engine.read(lambda txn: {one for one, _ in account_rows.credentials_of(txn, user_id)})
        root = login.keys.root()
        try:
            device = ways_in.new_code(secrets, user_id, root, Kind.DEVICE, created=now, taken=taken.__contains__)
            recovery = ways_in.new_code(
                secrets,
                user_id,
                root,
                Kind.RECOVERY,
                created=now,
                taken=lambda one: one in taken or one == device.credential_id,
            )
        finally:
            root.wipe()
        labelled = ways_in.with_label(device.row, device.credential_id, "first device", login.keys)
        letter = code_texts.welcome_letter(login.address, device.code.text, recovery.code.text)
        placed = await self._mail.place(letter, user_id)
        told = await retold(self._mail, row, code_texts.opened_letter(row.ordinary or login.address, now))
        after = msgspec.structs.replace(
            row, opened_s=now, code_expires_s=0, pickup_mid="", wrong_codes=0, welcome_mid=placed.mid.hex()
        )

        def work(txn: WriteTxn) -> bool:
            if read_guest(txn, secrets, user_id) != row:
                return False
            account_rows.write_credential(txn, user_id, device.credential_id, labelled)
            account_rows.write_credential(txn, user_id, recovery.credential_id, recovery.row)
            note_made(txn, secrets, user_id, device.credential_id, now=now)
            write_bequest(txn, user_id, None)
            write_guest(txn, secrets, user_id, after)
            placed.file(txn)
            told(txn)
            self._audit(txn, now, login.address, "guest opened", code_texts.BY_CODE)
            txn.announce(Change(ChangeKind.ACCOUNT, user_id))
            return True

        return await self._engine.write(work, grows=True)

    def _audit(self, txn: WriteTxn, now: int, address: str, act: str, detail: str) -> None:
        audit_log.note(txn, self._secrets, AuditRow(at_s=now, by=address, act=act, whom=address, detail=detail))

    # By a password of his own.

    async def _by_his_own(self, login: Login) -> None:
        """Every log-in of everybody comes here: for who is no guest it costs one look into the store."""
        row = await self._guest(login.user_id)
        if row is None:
            return
        if not row.joined_s:
            await self.joined(login)
        if not row.joined_s or await self._has_later(login):
            await self._settle(login)

    async def joined(self, login: Login) -> None:
        """The guest has a password of his own: the code is void from now on, and its sessions end."""
        for _ in range(TRIES):
            row = await self._guest(login.user_id)
            if row is None or row.joined_s or await self._join(login, row):
                return

    async def _join(self, login: Login, row: GuestRow) -> bool:
        user_id, now, secrets = login.user_id, self._now(), self._secrets
        whom = row.ordinary or login.address
        told = await retold(self._mail, row, code_texts.joined_letter(whom, now))
        shown = Mid(bytes.fromhex(row.welcome_mid)) if row.welcome_mid else None
        tombstone: Work = nothing
        if shown is not None:
            tombstone = (await self._mail.replace(user_id, shown, code_texts.welcome_tombstone())).file
        after = msgspec.structs.replace(
            row, opened_s=row.opened_s or now, joined_s=now, code_expires_s=0, pickup_mid="", welcome_mid=""
        )

        def work(txn: WriteTxn) -> bool:
            if read_guest(txn, secrets, user_id) != row:
                return False
            account_rows.delete_credential(txn, user_id, PICKUP_ID)
            write_bequest(txn, user_id, None)
            write_guest(txn, secrets, user_id, after)
            if shown is not None and read_own(txn, secrets, user_id, shown) is not None:
                tombstone(txn)
            told(txn)
            self._audit(txn, now, login.address, "guest joined", "by a password of his own")
            txn.announce(Change(ChangeKind.ACCOUNT, user_id))
            return True

        return await self._engine.write(work)

    async def _has_later(self, login: Login) -> bool:
        """Whether the folder Later came up again: a message was filed while the guest joined."""
        shelf = Shelf(login.user_id, login.keys, PageCache(0))
        rows = await self._engine.read(lambda txn: read_rows(txn, shelf))
        return any(folder.special_use == ServiceFolder.LATER for folder in rows.folders)

    async def _settle(self, login: Login) -> None:
        """Bring in what was out of sight, waiting for `SETTLING_S` at most."""
        mailbox = self._mailboxes.open(login.user_id, login.address, login.keys)

        async def work() -> None:
            try:
                await bring_in(mailbox)
            finally:
                mailbox.close()

        done: Deferred[None] = Deferred()
        running = Deferred.fromCoroutine(work())
        running.addErrback(lambda failure: log.failure("bringing in what was kept for later", failure))
        timer = self._clock.callLater(SETTLING_S, done.callback, None)
        running.addCallback(lambda _: None if done.called else done.callback(None))
        await done
        if timer.active():
            timer.cancel()

    # By a recovery code.

    async def recovered(self, login: Login, peer: str) -> None:
        """A new password in the folder Devices, unless one that was made so waits there still; all devices are told.

        Raises `StoreUnavailable`.
        """
        user_id, now, secrets = login.user_id, self._now(), self._secrets

        def look(txn: ReadTxn) -> tuple[set[CredentialId], bool]:
            taken = {one for one, _ in account_rows.credentials_of(txn, user_id)}
            return taken, self._waits_unused(txn, user_id)

        taken, waits = await self._engine.read(look)
        if waits:
            return
        root = login.keys.root()
        try:
            made = ways_in.new_code(secrets, user_id, root, Kind.DEVICE, created=now, taken=taken.__contains__)
        finally:
            root.wipe()
        await self._hand_out(login, made, peer, now)

    async def _hand_out(self, login: Login, made: NewCode, peer: str, now: int) -> None:
        user_id, secrets = login.user_id, self._secrets
        row = ways_in.with_label(made.row, made.credential_id, "recovered", login.keys)
        letter = code_texts.fresh_password_letter(login.address, made.code.text, now)
        placed = await self._mail.place(letter, user_id, special_use=ServiceFolder.DEVICES)
        told = await self._mail.place(code_texts.recovered_letter(login.address, now, network_of(peer)), user_id)
        mark = ServiceRow(kind=Service.PASSWORD, number=made.credential_id, made_s=now, digest=RECOVERED)

        def work(txn: WriteTxn) -> None:
            if self._waits_unused(txn, user_id):
                return
            account_rows.write_credential(txn, user_id, made.credential_id, row)
            note_made(txn, secrets, user_id, made.credential_id, now=now, by="recovery code")
            self._want_folders(txn, user_id)
            placed.file(txn)
            write_mark(txn, secrets, user_id, placed.mid, mark)
            told.file(txn)
            txn.announce(Change(ChangeKind.ACCOUNT, user_id))

        await self._engine.write(work, grows=True)

    def _want_folders(self, txn: WriteTxn, user_id: UserId) -> None:
        """The devices are to be seen: from now on the server keeps a message for each."""
        account = account_rows.read_account(txn, self._secrets, user_id)
        if account is not None and Option.SERVICE_FOLDERS not in account.options:
            wanted = replace(account, options=account.options | Option.SERVICE_FOLDERS)
            account_rows.write_account(txn, self._secrets, user_id, wanted)

    def _waits_unused(self, txn: ReadTxn, user_id: UserId) -> bool:
        """Whether a message still shows a password that was made so and nobody has used."""
        for mid, mark in marks_of(txn, self._secrets, user_id):
            number = CredentialId(mark.number)
            if mark.kind == Service.PASSWORD and mark.digest == RECOVERED:
                exists = account_rows.read_credential(txn, user_id, number) is not None
                used = account_rows.read_day(txn, self._secrets, user_id, number) is not None
                shows = read_own(txn, self._secrets, user_id, mid) is not None
                if exists and shows and not used:
                    return True
        return False


async def bring_in(mailbox: OpenMailbox) -> None:
    """Move what is in the folder Later into INBOX, and remove the folder."""
    await mailbox.absorb()
    table = await mailbox.folders()
    inbox = table.by_name(INBOX)
    later = next((folder for folder in table if folder.service is ServiceFolder.LATER), None)
    if inbox is not None and later is not None:
        await mailbox.move(later.box_id, ALL_UIDS, inbox.box_id)
        await mailbox.delete_folder(later.name)
