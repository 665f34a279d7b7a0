"""A new pickup code in the place of one that is lost or too old, by the session of whoever invited the guest.

His root key is sealed to the inviter and to nobody else: the server cannot renew a code by itself. Where nobody can,
the guest gets new keys and an empty mailbox under the same addresses, and whoever wrote is told to write again.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from email.message import EmailMessage
from functools import partial

import msgspec
from twisted.logger import Logger

from certmaild.config_values import Invites
from certmaild.guests import code_texts
from certmaild.guests.code_command import InThread
from certmaild.guests.interfaces import Guest
from certmaild.guests.invitations import guest_of
from certmaild.guests.pickup import PickupLetters, Shown, user_of
from certmaild.guests.retelling import retold
from certmaild.keystore.errors import SealBroken
from certmaild.keystore.secret import Secret
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.keystore.users import create_user_keys, seal_bequest
from certmaild.mailbox import account_rows as rows
from certmaild.mailbox import audit_log, ways_in
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.directory import Directory, RecipientFacts
from certmaild.mailbox.errors import AddressError
from certmaild.mailbox.guests import (
    note_code_dies,
    note_heard,
    read_bequest,
    read_guest,
    set_notice_due,
    write_bequest,
    write_guest,
)
from certmaild.mailbox.identifiers import Mid, UserId
from certmaild.mailbox.interfaces import Engine, ReadTxn, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import PICKUP_ID, Account, State, encode_owner
from certmaild.mailbox.layout_guests import AuditRow, GuestRow
from certmaild.mailbox.new_accounts import AccountRows, prepare_account, write_account_rows
from certmaild.mailbox.removal import KEY_TABLES, delete_rows, remove_user
from certmaild.mailbox.values import MAX_FOLDERS
from certmaild.mailbox.ways_in import NewCode
from certmaild.outbound.interfaces import Work
from certmaild.protocols.interfaces import Login
from certmaild.reports.service_mail import NotWritable, ServiceMail

log = Logger()

DAY_S = 86_400
_COMMAND = re.compile(r"new\s+(?:code|(mailbox))\b", re.IGNORECASE)
"""The second form is asked for where the first cannot be done, since what waits is lost by it."""
_ADDRESS = re.compile(r"[^\s<>\"',;:]+@[^\s<>\"',;:]+")
_MESSAGE_ID = re.compile(r"<invite\.([a-z2-7]{26})\.")


class CodeRefused(Exception):
    """No new code; ``answer`` says why."""

    def __init__(self, answer: EmailMessage) -> None:
        super().__init__(str(answer["Subject"]))
        self.answer = answer


@dataclass(frozen=True, slots=True)
class _Anew:
    """A guest's mailbox under new keys."""

    rows: AccountRows
    guest: Guest
    code: NewCode
    bequest: bytes


class Renewal:
    """Answers what is written to ``invite@`` by people who are logged in."""

    def __init__(
        self,
        engine: Engine,
        secrets: ServerSecrets,
        mail: ServiceMail,
        directory: Directory,
        letters: PickupLetters,
        settings: Callable[[], Invites],
        *,
        seconds: Callable[[], float],
        in_thread: InThread,
    ) -> None:
        self._engine = engine
        self._secrets = secrets
        self._mail = mail
        self._directory = directory
        self._letters = letters
        self._settings = settings
        self._seconds = seconds
        self._in_thread = in_thread

    async def answer(
        self, login: Login, tag: str | None, in_reply_to: str | None, lines: Sequence[str]
    ) -> EmailMessage | None:
        """Renew the code that is meant, and say so; None where none is asked for. Raises `StoreUnavailable`.

        ``lines``: the subject, then the text. Which guest is meant stands in ``tag``, else in the Message-ID that is
        answered, else in the lines.
        """
        commands = [found for line in lines if (found := _COMMAND.match(line))]
        if not commands:
            return None
        try:
            meant = await self._meant(tag, in_reply_to, lines)
            requester = await self._requester(login, meant)
            guest = guest_of(meant) if meant is not None else None
            if meant is None or guest is None:
                raise CodeRefused(code_texts.whom_answer())
            whom = guest.account if guest.ordinary is None else str(guest.ordinary)
            if guest.row.joined_s or guest.row.opened_s:
                raise CodeRefused(code_texts.has_own_answer(whom, opened=not guest.row.joined_s))
            root = await self._root(login, guest, whom)
            if root is not None:
                await self._renew(login, requester, guest, root)
                return code_texts.renewed_answer(whom)
            if commands[0][1] is None:
                raise CodeRefused(code_texts.confirm_answer(whom, guest.row.code_expires_s))
            await self._make_anew(requester, meant, guest)
            return code_texts.anew_answer(whom)
        except CodeRefused as refused:
            return refused.answer

    # Who is meant, and who may.

    async def _meant(self, tag: str | None, in_reply_to: str | None, lines: Sequence[str]) -> RecipientFacts | None:
        answered = _MESSAGE_ID.match(in_reply_to or "")
        for one in (tag, answered and answered[1]):
            user_id = user_of(one) if one else None
            found = None if user_id is None else await self._directory.account(user_id)
            if found is not None and found.is_active:
                return found
        for line in lines:
            for text in _ADDRESS.findall(line):
                try:
                    found = await self._directory.recipient(canonical(text.rstrip(".)!?")))
                except AddressError:
                    continue
                if found is not None and found.is_active:
                    return found
        return None

    async def _requester(self, login: Login, meant: RecipientFacts | None) -> RecipientFacts:
        """Who asks, if he is a member who has written to the guest. Else it is answered as if there were no guest."""
        requester = await self._directory.account(login.user_id)
        if meant is None or meant.guest is None or requester is None or not requester.role.is_member:
            raise CodeRefused(code_texts.whom_answer())
        inviter = meant.guest.inviter_id == login.user_id.hex()
        if not inviter and not await self._directory.has_heard(meant.user_id, canonical(requester.address)):
            raise CodeRefused(code_texts.whom_answer())
        return requester

    async def _root(self, login: Login, guest: Guest, whom: str) -> Secret | None:
        """The guest's root key, if it is this user's to open; None where nobody can open it any more."""
        inviter_id = UserId(bytes.fromhex(guest.row.inviter_id))

        def work(txn: ReadTxn) -> tuple[bytes | None, bool]:
            inviter = rows.read_account(txn, self._secrets, inviter_id) if inviter_id else None
            # Who is disabled may be enabled again: his guests' mail is not given up for that.
            return read_bequest(txn, guest.user_id), inviter is not None and inviter.state is not State.PARKED

        bequest, is_there = await self._engine.read(work)
        if bequest is not None and login.user_id == inviter_id:
            try:
                return login.keys.open_bequest(guest.user_id, bequest)
            except SealBroken:
                log.warn("the bequest of {guest} does not open", guest=guest.user_id.hex())
                return None
        if bequest is not None and is_there:
            same = login.address.rpartition("@")[2] == guest.row.inviter.rpartition("@")[2]
            raise CodeRefused(code_texts.held_answer(whom, guest.row.inviter if same else None))
        return None

    # The same keys.

    async def _renew(self, login: Login, requester: RecipientFacts, guest: Guest, root: Secret) -> None:
        now, user_id, secrets, row = int(self._seconds()), guest.user_id, self._secrets, guest.row
        expires = now + self._settings().code_days * DAY_S
        old = await self._engine.read(lambda txn: rows.read_credential(txn, user_id, PICKUP_ID))
        created = now if old is None else max(now, old.head.created + 1)
        try:
            made = await self._in_thread(
                lambda: ways_in.new_pickup(secrets, user_id, root, created=created, expires=expires)
            )
        finally:
            root.wipe()
        shown = Shown(
            replace(guest, row=msgspec.structs.replace(row, code_expires_s=expires)),
            made.code,
            requester.address,
            renewed=True,
        )
        mid, filed = await self._placed(shown, row, requester.user_id)

        def work(txn: WriteTxn) -> bool:
            found = read_guest(txn, secrets, user_id)
            if found is None or found.opened_s or found.joined_s or found.pickup_mid != row.pickup_mid:
                return False
            rows.write_credential(txn, user_id, PICKUP_ID, made.row)
            after = msgspec.structs.replace(found, code_expires_s=expires, pickup_mid=mid.hex(), wrong_codes=0)
            write_guest(txn, secrets, user_id, after)
            note_code_dies(txn, user_id, expires)
            filed(txn)
            self._audit(txn, now, requester.address, "code renewed", guest)
            txn.announce(Change(ChangeKind.ACCOUNT, user_id))
            return True

        if not await self._engine.write(work, grows=True):
            raise CodeRefused(code_texts.meanwhile_answer(shown.whom))
        self._letters.carry(shown, login.user_id)

    async def _placed(self, shown: Shown, row: GuestRow, user_id: UserId) -> tuple[Mid, Work]:
        """The letter with the new code, in the place of the one with the old."""
        letter = self._letters.letter(shown)
        if row.pickup_mid:
            placed = await self._mail.replace(user_id, Mid(bytes.fromhex(row.pickup_mid)), letter)
        else:
            placed = await self._mail.place(letter, user_id)
        return placed.mid, placed.file

    def _audit(self, txn: WriteTxn, now: int, by: str, act: str, guest: Guest) -> None:
        whom = guest.account if guest.ordinary is None else str(guest.ordinary)
        audit_log.note(txn, self._secrets, AuditRow(at_s=now, by=by, act=act, whom=whom))

    # New keys.

    async def _make_anew(self, requester: RecipientFacts, old: RecipientFacts, guest: Guest) -> None:
        now, secrets = int(self._seconds()), self._secrets
        account = await self._engine.read(lambda txn: rows.read_account(txn, secrets, old.user_id))
        if account is None:
            raise CodeRefused(code_texts.whom_answer())
        account = replace(account, state=State.ACTIVE, created=now)
        made = await self._in_thread(partial(self._keys, account, requester, guest, now))
        shown = Shown(made.guest, made.code.code, requester.address, renewed=True)
        placed = await self._mail.place(self._letters.letter(shown), requester.user_id)
        row = msgspec.structs.replace(made.guest.row, pickup_mid=placed.mid.hex())
        told = await self._told_to_send_again(guest, requester, shown.whom)
        before = encode_owner(old.user_id)

        def work(txn: WriteTxn) -> bool:
            found = read_guest(txn, secrets, old.user_id)
            if found is None or found.opened_s or found.joined_s or txn.get(Table.ADDR, made.rows.key) != before:
                return False
            rows.set_state(txn, secrets, old.user_id, State.PARKED)
            set_notice_due(txn, secrets, old.user_id, found, 0)
            for table in (*KEY_TABLES, Table.GUEST):
                delete_rows(txn, table, old.user_id)
            write_account_rows(txn, secrets, made.rows, replaces=before)
            set_notice_due(txn, secrets, made.rows.user_id, row, found.notice_due_s)
            write_bequest(txn, made.rows.user_id, made.bequest)
            note_code_dies(txn, made.rows.user_id, row.code_expires_s)
            note_heard(txn, secrets, made.rows.user_id, canonical(requester.address))
            placed.file(txn)
            for one in told:
                one(txn)
            self._audit(txn, now, requester.address, "guest made anew", guest)
            txn.announce(Change(ChangeKind.ACCOUNT, old.user_id))
            return True

        if not await self._engine.write(work, grows=True):
            raise CodeRefused(code_texts.meanwhile_answer(shown.whom))
        self._letters.carry(shown, requester.user_id)
        await remove_user(self._engine, secrets, old.user_id, lambda: now)

    def _keys(self, account: Account, requester: RecipientFacts, guest: Guest, now: int) -> _Anew:
        """Takes some 30 ms, for a thread."""
        secrets = self._secrets
        user = create_user_keys(secrets)
        try:
            user_id, expires = UserId(user.user_id), now + self._settings().code_days * DAY_S
            code = ways_in.new_pickup(secrets, user_id, user.root, created=now, expires=expires)
            # Each folder that the old mailbox made may have been numbered one above the time.
            least = max(account.last_uid_validity, now) + 2 * MAX_FOLDERS
            made = prepare_account(account, user, [(code.credential_id, code.row)], now=now, least=least)
            bequest = seal_bequest(requester.public_key, requester.user_id, user_id, user.root.reveal())
        finally:
            user.root.wipe()
            user.keys.close()
        row = msgspec.structs.replace(
            guest.row,
            inviter=requester.address,
            inviter_id=requester.user_id.hex(),
            code_expires_s=expires,
            pickup_mid="",
            notice_due_s=0,
            wrong_codes=0,
            generation=guest.row.generation + 1,
        )
        return _Anew(made, Guest(user_id, guest.account, guest.ordinary, row), code, bequest)

    async def _told_to_send_again(self, guest: Guest, requester: RecipientFacts, whom: str) -> list[Work]:
        """Whoever is known to have written: the inviter, and those who wrote since the last notice."""
        row = guest.row

        def by(address: str) -> str | None:
            same = address.rpartition("@")[2] == requester.address.rpartition("@")[2]
            return requester.address if same else None

        told = [await retold(self._mail, row, code_texts.send_again_letter(whom, by(row.inviter)))]
        known = {requester.user_id, UserId(bytes.fromhex(row.inviter_id))}
        for address, user_id in [(row.inviter, ""), *((one.address, one.user_id) for one in row.writers)]:
            account = await self._account(address, user_id)
            if account is not None and account.user_id not in known:
                known.add(account.user_id)
                letter = code_texts.send_again_letter(whom, by(account.address))
                try:
                    told.append((await self._mail.place(letter, account.user_id)).file)
                except NotWritable:
                    continue
        return told

    def _account(self, address: str, user_id: str) -> Awaitable[RecipientFacts | None]:
        if user_id:
            return self._directory.account(UserId(bytes.fromhex(user_id)))
        return self._directory.recipient(canonical(address))
