"""Keeps the folder Devices as it should be: a message for each device, and the instruction; and password messages.

Names of devices are under the user's keys, so it works when he has logged in, in the background, and when something
changes while a session of his lasts. What it finds it compares with what should be; nothing depends on what it did
before. Messages are filed as arrivals, whose marks say what they tell of.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from certmaild.keystore.errors import KeysClosed, KeystoreError
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.keystore.users import KeyRing
from certmaild.mailbox import ownership
from certmaild.mailbox.account_rows import LAST_CREDENTIAL, read_account
from certmaild.mailbox.arrivals import queue_order
from certmaild.mailbox.clients import change_client, network_of
from certmaild.mailbox.devices import RETURNED
from certmaild.mailbox.errors import MailboxError
from certmaild.mailbox.identifiers import CredentialId, Mid, UserId
from certmaild.mailbox.interfaces import Engine, ReadTxn, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import Account, Kind, Option, State
from certmaild.mailbox.layout_guests import ClientRow, ServiceRow
from certmaild.mailbox.layout_guests import Service as Told
from certmaild.mailbox.service_marks import marks_of, remove_mark, write_mark
from certmaild.mailbox.values import ServiceFolder, SystemFlag
from certmaild.outbound.interfaces import Work
from certmaild.protocols.interfaces import ClientId, Login, Service
from certmaild.protocols.transport import Clock
from certmaild.reports.service_mail import NotWritable, ServiceMail
from certmaild.services import texts
from certmaild.services.fleet import Device, read_fleet

log = Logger()

LATER_S = 0.5
"""After a log-in or change: the client has its answers then, and has said what it is."""
DAY_S = 86_400
MOST_SETTLED = 16_384
"""Users of whom is remembered that nothing was to do, some 200 octets each."""
_FILED = "filed "
"""Begins a digest whose message came back: it says one sentence more until the device's facts change."""


@dataclass(slots=True)
class _Visit:
    """What is to be looked at soon, with the keys held until then."""

    keys: KeyRing
    used: dict[CredentialId, str] = field(default_factory=dict)
    """The log-ins since, and from where."""
    programs: dict[CredentialId, ClientId] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Found:
    """One consistent look at a mailbox."""

    stamp: bytes
    account: Account | None
    devices: list[Device]
    marks: dict[Mid, ServiceRow]


class Steward:
    """One for a process; a `ClientWatch`. Nothing it does holds a log-in up or fails it."""

    def __init__(
        self, engine: Engine, secrets: ServerSecrets, mail: ServiceMail, clock: Clock, *, later_s: float = LATER_S
    ) -> None:
        self._engine = engine
        self._secrets = secrets
        self._mail = mail
        self._clock = clock
        self._later_s = later_s
        self._visits: dict[UserId, _Visit] = {}
        self._calls: dict[UserId, Callable[[], None]] = {}
        self._settled: OrderedDict[UserId, bytes] = OrderedDict()
        self._is_stopped = False

    # What it hears.

    async def entered(self, login: Login, service: Service, peer: str) -> None:
        """See `ClientWatch.entered`. A pickup code shows no devices yet."""
        if login.kind is not Kind.PICKUP and (visit := self._visit(login.user_id, login.keys)) is not None:
            visit.used[login.credential_id] = peer

    async def told(self, login: Login, client_id: ClientId, peer: str) -> None:
        """See `ClientWatch.told`."""
        if login.kind is not Kind.PICKUP and (visit := self._visit(login.user_id, login.keys)) is not None:
            visit.used[login.credential_id] = peer
            visit.programs[login.credential_id] = client_id

    def stirred(self, user_id: UserId, keys: KeyRing) -> None:
        """Something of his account or devices may be different now."""
        self._visit(user_id, keys)

    def stop(self) -> None:
        """Look at nothing further."""
        self._is_stopped = True
        for cancel in list(self._calls.values()):
            cancel()
        for visit in self._visits.values():
            visit.keys.__exit__(None, None, None)
        self._calls.clear()
        self._visits.clear()

    def _visit(self, user_id: UserId, keys: KeyRing) -> _Visit | None:
        visit = self._visits.get(user_id)
        if visit is not None or self._is_stopped:
            return visit
        try:
            keys.__enter__()
        except KeysClosed:
            return None
        visit = self._visits[user_id] = _Visit(keys)
        call = self._clock.callLater(self._later_s, self._begin, user_id)
        self._calls[user_id] = call.cancel
        return visit

    def _begin(self, user_id: UserId) -> None:
        visit = self._visits.pop(user_id)
        del self._calls[user_id]

        async def work() -> None:
            try:
                await self._look_after(user_id, visit)
            except (KeysClosed, NotWritable):
                pass
            except (MailboxError, KeystoreError) as fault:
                log.error("the folder Devices of {user}: {fault}", user=user_id.hex(), fault=repr(fault))
            finally:
                visit.keys.__exit__(None, None, None)

        Deferred.fromCoroutine(work()).addErrback(lambda failure: log.failure("the folder Devices", failure))

    # What it does.

    async def _look_after(self, user_id: UserId, visit: _Visit) -> None:
        today = int(self._clock.seconds()) // DAY_S
        stamp = await self._engine.read(lambda txn: _stamp(txn, user_id, today))
        if self._settled.get(user_id) == stamp and not visit.programs:
            return
        for _ in range(4):
            found = await self._engine.read(lambda txn: self._read(txn, user_id, visit.keys, today))
            if await self._note_clients(user_id, found, visit):
                continue
            works = await self._missing(user_id, found, frozenset(visit.used))
            if not works:
                self._settle(user_id, found)
                return
            if await self._write(user_id, found, works):
                return

    def _settle(self, user_id: UserId, found: _Found) -> None:
        """Remember that nothing was to do. While a password is shown any log-in may be the first with it."""
        if any(mark.kind == Told.PASSWORD for mark in found.marks.values()):
            return
        self._settled[user_id] = found.stamp
        self._settled.move_to_end(user_id)
        while len(self._settled) > MOST_SETTLED:
            self._settled.popitem(last=False)

    def _read(self, txn: ReadTxn, user_id: UserId, keys: KeyRing, today: int) -> _Found:
        account = read_account(txn, self._secrets, user_id)
        marks = dict(marks_of(txn, self._secrets, user_id))
        is_wanted = account is not None and Option.SERVICE_FOLDERS in account.options
        devices = read_fleet(txn, self._secrets, keys) if is_wanted or marks else []
        return _Found(_stamp(txn, user_id, today), account, devices, marks)

    async def _note_clients(self, user_id: UserId, found: _Found, visit: _Visit) -> bool:
        """Write where devices log in from and with what: once a day, and when a program is new. Whether it was so."""
        now, secrets = int(self._clock.seconds()), self._secrets
        changes = {
            one.credential_id: _client(visit.used[one.credential_id], said, now)
            for one in found.devices
            if one.credential_id in visit.used
            and _is_news(one.client, said := visit.programs.get(one.credential_id, ()), now)
        }

        def work(txn: WriteTxn) -> None:
            for one, change in changes.items():
                change_client(txn, secrets, user_id, one, change)

        if changes:
            await self._engine.write(work)
        return bool(changes)

    async def _missing(self, user_id: UserId, found: _Found, used: frozenset[CredentialId]) -> list[Work]:
        """What brings the messages into order."""
        account = found.account
        if account is None or account.state is not State.ACTIVE:
            return []
        works = await self._passwords_seen(user_id, found, used, _domain(account))
        if Option.SERVICE_FOLDERS in account.options:
            works += await self._devices(user_id, found, _domain(account))
        return works

    async def _passwords_seen(
        self, user_id: UserId, found: _Found, used: frozenset[CredentialId], domain: str
    ) -> list[Work]:
        """Messages whose password has been used, or is of no use any more, show it no longer."""
        works: list[Work] = []
        names = {one.credential_id: one.name for one in found.devices}
        was_used = used | {one.credential_id for one in found.devices if one.day is not None}
        for mid, mark in found.marks.items():
            number = CredentialId(mark.number)
            if mark.kind == Told.PASSWORD and (number in was_used or number not in names):
                works.append(await hide_password(self._mail, user_id, mid, names.get(number), domain, was_used=True))
        return works

    async def _devices(self, user_id: UserId, found: _Found, domain: str) -> list[Work]:
        works: list[Work] = []
        by_number = {mark.number: (mid, mark) for mid, mark in found.marks.items() if mark.kind == Told.DEVICE}
        for device in found.devices:
            there = by_number.pop(device.credential_id, None)
            plain = texts.device_text(device, domain, came_back=False)
            digest = _digest(texts.device_subject(device) + plain)
            if there is not None and there[1].digest in (digest, _FILED + digest):
                continue
            came_back = there is not None and there[1].digest == RETURNED
            text = texts.device_text(device, domain, came_back=True) if came_back else plain
            row = ServiceRow(
                kind=Told.DEVICE,
                number=device.credential_id,
                made_s=int(self._clock.seconds()),
                digest=_FILED + digest if came_back else digest,
            )
            is_old = there is not None and not came_back
            works.append(
                await self._filed(user_id, texts.device_subject(device), text, domain, row, there, is_read=is_old)
            )
        now = int(self._clock.seconds())
        works += [taken_away(self._secrets, user_id, mid, now) for mid, _ in by_number.values()]
        return works + await self._instruction(user_id, found, domain)

    async def _instruction(self, user_id: UserId, found: _Found, domain: str) -> list[Work]:
        text = texts.instruction(domain)
        digest = _digest(text)
        there = next((one for one in found.marks.items() if one[1].kind == Told.INSTRUCTION), None)
        if there is not None and there[1].digest == digest:
            return []
        now = int(self._clock.seconds())
        row = ServiceRow(kind=Told.INSTRUCTION, number=ServiceFolder.DEVICES, made_s=now, digest=digest)
        return [await self._filed(user_id, texts.INSTRUCTION_SUBJECT, text, domain, row, there, is_read=False)]

    async def _filed(
        self,
        user_id: UserId,
        subject: str,
        text: str,
        domain: str,
        row: ServiceRow,
        there: tuple[Mid, ServiceRow] | None,
        *,
        is_read: bool,
    ) -> Work:
        """A message in Devices with its mark, in the place of the one that is there."""
        letter = texts.letter(text, subject)
        letter["From"] = f"certmaild <devices@{domain}>"
        flags = int(SystemFlag.SEEN) if is_read else 0
        placed = await self._mail.place(letter, user_id, special_use=ServiceFolder.DEVICES, flags=flags)
        gone = None if there is None else taken_away(self._secrets, user_id, there[0], int(self._clock.seconds()))
        secrets = self._secrets

        def work(txn: WriteTxn) -> None:
            if gone is not None:
                gone(txn)
            placed.file(txn)
            write_mark(txn, secrets, user_id, placed.mid, row)

        return work

    async def _write(self, user_id: UserId, found: _Found, works: list[Work]) -> bool:
        """Do all of it, if everything is still as it was found; else nothing: another process may have done it."""
        today = int(self._clock.seconds()) // DAY_S

        def work(txn: WriteTxn) -> bool:
            if _stamp(txn, user_id, today) != found.stamp:
                return False
            for one in works:
                one(txn)
            return True

        return await self._engine.write(work, grows=True)


async def hide_password(
    mail: ServiceMail, user_id: UserId, mid: Mid, name: str | None, domain: str, *, was_used: bool
) -> Work:
    """What puts a message without the password in the place of one that shows it."""
    if name is None and was_used:
        letter = texts.password_void(domain)
    else:
        letter = texts.password_gone(name or "The device", domain, was_used=was_used)
    letter["From"] = f"certmaild <devices@{domain}>"
    placed = await mail.replace(user_id, mid, letter, flags=int(SystemFlag.SEEN))

    def work(txn: WriteTxn) -> None:
        remove_mark(txn, user_id, mid)
        placed.file(txn)

    return work


def taken_away(secrets: ServerSecrets, user_id: UserId, mid: Mid, now: int) -> Work:
    """What ends a message of the server's own: nobody reads it from the commit on."""

    def work(txn: WriteTxn) -> None:
        remove_mark(txn, user_id, mid)
        ownership.forfeit(txn, secrets, user_id, mid, now)
        queue_order(txn, secrets, user_id, mid)

    return work


def _program(said: ClientId) -> tuple[str, str]:
    """What a client calls itself, and its version (RFC 2971): whatever it likes, so printable characters alone."""
    fields = {
        name.lower(): "".join(char for char in " ".join(value.split()) if char.isprintable()) for name, value in said
    }
    return fields.get("name", "")[:100], fields.get("version", "")[:40]


def _is_news(row: ClientRow, said: ClientId, now: int) -> bool:
    program, _ = _program(said)
    return row.told_s // DAY_S != now // DAY_S or not row.network or program not in ("", row.program)


def _client(peer: str, said: ClientId, now: int) -> Callable[[ClientRow], ClientRow]:
    program, version = _program(said)

    def change(row: ClientRow) -> ClientRow:
        row = msgspec.structs.replace(row, network=network_of(peer), told_s=now)
        return msgspec.structs.replace(row, program=program, program_version=version) if program else row

    return change


def _stamp(txn: ReadTxn, user_id: UserId, today: int) -> bytes:
    """A digest of all that the folder depends on, as it is stored; nothing is opened for it."""
    digest = hashlib.blake2b(today.to_bytes(4, "big"), digest_size=16)
    digest.update(txn.get(Table.ACCT, user_id) or b"")
    for table, end in (
        (Table.CRED, LAST_CREDENTIAL),
        (Table.SEEN, LAST_CREDENTIAL),
        (Table.CLIENT, LAST_CREDENTIAL),
        (Table.SERVICE, b"\xff" * 17),
    ):
        for key, value in txn.scan(table, user_id, user_id + end):
            digest.update(key)
            digest.update(value)
    return digest.digest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]


def _domain(account: Account) -> str:
    return account.address.rpartition("@")[2]
