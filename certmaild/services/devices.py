"""The clerk of devices@: passwords for devices, made, listed, renamed and revoked by mail."""

import io
from collections.abc import Callable
from dataclasses import replace
from email.message import EmailMessage

import segno
from twisted.logger import Logger

from certmaild.client_setup.profile import CONTENT_TYPE, SUFFIX, mobileconfig
from certmaild.client_setup.scanned import scanned
from certmaild.client_setup.settings import ClientSettings, in_words, settings_for
from certmaild.config_values import Config
from certmaild.filing import InThread
from certmaild.keystore.errors import KeystoreError
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.account_rows import read_account, read_credential, write_account, write_credential
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.devices import devices_of, id_text, note_made, revoke
from certmaild.mailbox.identifiers import Mid, UserId
from certmaild.mailbox.interfaces import Engine, WriteTxn
from certmaild.mailbox.layout_accounts import Kind, Option
from certmaild.mailbox.layout_guests import Service, ServiceRow
from certmaild.mailbox.service_marks import write_mark
from certmaild.mailbox.ways_in import NewCode, new_code, with_label
from certmaild.protocols.interfaces import Login
from certmaild.protocols.smtp.errors import Refusal
from certmaild.reports.service_mail import ServiceMail
from certmaild.services import texts
from certmaild.services.commands import YES, Command, Verb, checked_name, first_command, folded, old_and_new
from certmaild.services.fleet import Device, read_fleet
from certmaild.services.interfaces import Answer, Request

log = Logger()

CHANGED_MEANWHILE = Refusal(451, "4.3.0", "Your devices changed at this moment, please try again")


class DeviceClerk:
    """Answers at devices@. ``config`` is asked anew for each request."""

    def __init__(
        self,
        engine: Engine,
        secrets: ServerSecrets,
        mail: ServiceMail,
        config: Callable[[], Config],
        in_thread: InThread,
        seconds: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._secrets = secrets
        self._mail = mail
        self._config = config
        self._in_thread = in_thread
        self._seconds = seconds

    async def answer(self, request: Request) -> EmailMessage | Answer | None:
        """See `Clerk.answer`. Who writes here gets the folder Devices from now on, if he had not yet."""
        command = first_command(request.lines)
        if command is None or command.verb is Verb.HELP:
            return Answer(
                texts.not_understood(request), lambda txn, mid: self._want_folders(txn, request.login.user_id)
            )
        login = request.login
        secrets = self._secrets
        with login.keys:
            devices = await self._engine.read(lambda txn: read_fleet(txn, secrets, login.keys))
        match command.verb:
            case Verb.ADD:
                return await self._add(request, command.rest, devices)
            case Verb.LIST:
                own = next((one for one in devices if one.credential_id == login.credential_id), None)
                return texts.letter(texts.listed(devices, own, request.domain))
            case Verb.RENAME:
                return self._rename(request, command.rest, devices)
            case Verb.REVOKE:
                return self._revoke(request, command, devices)
            case Verb.PROFILE:
                return await self._profile(login)

    def _want_folders(self, txn: WriteTxn, user_id: UserId) -> None:
        account = read_account(txn, self._secrets, user_id)
        if account is not None and Option.SERVICE_FOLDERS not in account.options:
            wanting = replace(account, options=account.options | Option.SERVICE_FOLDERS)
            write_account(txn, self._secrets, user_id, wanting)

    # A new device.

    async def _add(self, request: Request, rest: str, devices: list[Device]) -> EmailMessage | Answer:
        words, is_apple = _without_apple(rest)
        name = checked_name(words)
        most = self._config().devices.most
        if name is None:
            return texts.letter(texts.NO_NAME)
        if any(one.is_called(name) for one in devices):
            return texts.letter(texts.name_taken(name))
        if len(devices) >= most:
            return texts.letter(texts.too_many(most))
        login, secrets, now = request.login, self._secrets, int(self._seconds())
        root = login.keys.root()
        try:
            made = new_code(secrets, login.user_id, root, Kind.DEVICE, created=now)
        finally:
            root.wipe()
        row = with_label(made.row, made.credential_id, name, login.keys)
        letter = await self._password_letter(request, name, made, is_apple=is_apple)
        by = next((one.name for one in devices if one.credential_id == login.credential_id), "a device that is gone")
        word = texts.announced(name, by, texts.moment(now), request.domain)
        word["From"] = f"certmaild <{request.service}@{request.domain}>"
        announcement = await self._mail.place(word, login.user_id)

        def also(txn: WriteTxn, mid: Mid) -> None:
            there = [one for one, _ in devices_of(txn, login.user_id)]
            is_taken = read_credential(txn, login.user_id, made.credential_id) is not None
            if len(there) >= most or is_taken or login.credential_id not in there:
                raise CHANGED_MEANWHILE
            write_credential(txn, login.user_id, made.credential_id, row)
            note_made(txn, secrets, login.user_id, made.credential_id, now=now)
            mark = ServiceRow(kind=Service.PASSWORD, number=made.credential_id, made_s=now)
            write_mark(txn, secrets, login.user_id, mid, mark)
            self._want_folders(txn, login.user_id)
            announcement.file(txn)
            txn.announce(Change(ChangeKind.ACCOUNT, login.user_id))

        return Answer(letter, also)

    async def _password_letter(self, request: Request, name: str, made: NewCode, *, is_apple: bool) -> EmailMessage:
        config, account = self._config(), request.login.address
        settings, password = settings_for(config, account), made.code.text
        words = in_words(settings)
        picture = await self._in_thread(lambda: _picture(_for_camera(settings, password)))
        profile = await self._signed(account, password) if is_apple else None
        if is_apple:
            sentence = texts.PROFILE_MISSING if profile is None else texts.PROFILE_ATTACHED
        else:
            sentence = texts.profile_hint(name)
        letter = texts.letter(
            texts.added(
                name,
                password,
                words,
                _duration(config.devices.shown),
                request.domain,
                with_picture=True,
                profile=sentence,
            )
        )
        letter.add_attachment(picture, maintype="image", subtype="png", filename="settings.png")
        if profile is not None:
            _attach_profile(letter, profile)
        return letter

    async def _signed(self, account: str, password: str | None) -> bytes | None:
        config = self._config()
        try:
            return await self._in_thread(lambda: mobileconfig(config, settings_for(config, account), password=password))
        except (KeystoreError, ValueError, OSError):
            log.failure("a profile for Apple's devices could not be made")
            return None

    async def _profile(self, login: Login) -> EmailMessage:
        profile = await self._signed(login.address, None)
        words = in_words(settings_for(self._config(), login.address))
        letter = texts.letter(texts.profile_answer(words, is_attached=profile is not None))
        if profile is not None:
            _attach_profile(letter, profile)
        return letter

    # Those there are.

    def _rename(self, request: Request, rest: str, devices: list[Device]) -> EmailMessage | Answer:
        names = old_and_new(rest, (one.name for one in devices))
        new = None if names is None else checked_name(names[1])
        if names is None or new is None:
            return texts.letter(texts.NO_NAMES)
        found = _find(names[0], devices)
        if isinstance(found, EmailMessage):
            return found
        if any(one.is_called(new) for one in devices if one is not found):
            return texts.letter(texts.name_taken(new))
        user_id, keys = request.login.user_id, request.login.keys

        def also(txn: WriteTxn, _mid: Mid) -> None:
            row = read_credential(txn, user_id, found.credential_id)
            if row is None or read_credential(txn, user_id, request.login.credential_id) is None:
                raise CHANGED_MEANWHILE
            write_credential(txn, user_id, found.credential_id, with_label(row, found.credential_id, new, keys))
            self._want_folders(txn, user_id)
            txn.announce(Change(ChangeKind.ACCOUNT, user_id))

        return Answer(texts.letter(texts.renamed(found.name, new)), also)

    def _revoke(self, request: Request, command: Command, devices: list[Device]) -> EmailMessage | Answer:
        words = command.rest.split()
        is_sure = (
            len(words) > 1 and folded(words[-1]) in YES and not any(one.is_called(command.rest) for one in devices)
        )
        name = " ".join(words[:-1]) if is_sure else command.rest
        found = _find(name, devices)
        if isinstance(found, EmailMessage):
            return found
        if len(devices) == 1 and not is_sure:
            return texts.letter(texts.last_way(found.name))
        user_id, secrets, now = request.login.user_id, self._secrets, int(self._seconds())

        def also(txn: WriteTxn, _mid: Mid) -> None:
            there = [one for one, _ in devices_of(txn, user_id)]
            # Whose own device was revoked while he wrote revokes nobody else's any more.
            if request.login.credential_id not in there or not (is_sure or len(there) > 1):
                raise CHANGED_MEANWHILE
            revoke(txn, secrets, user_id, found.credential_id, now=now)
            self._want_folders(txn, user_id)

        return Answer(texts.letter(texts.revoked(found.name)), also)


def _find(name: str, devices: list[Device]) -> Device | EmailMessage:
    """The one device of this name, or what to answer instead."""
    found = [one for one in devices if one.is_called(name)]
    if not found:
        return texts.letter(texts.no_such_device(name, devices))
    if len(found) > 1:
        return texts.letter(texts.ambiguous(name, [id_text(one.credential_id) for one in found]))
    return found[0]


def _without_apple(rest: str) -> tuple[str, bool]:
    """A name, and whether ``apple`` stood behind it."""
    words = rest.split()
    if len(words) > 1 and folded(words[-1]) == "apple":
        return " ".join(words[:-1]), True
    return rest, False


def _for_camera(settings: ClientSettings, password: str) -> str:
    """What Thunderbird for Android sets itself up by; where a listener that it needs is off, words for a person."""
    try:
        return scanned(settings, password)
    except ValueError:
        return f"{in_words(settings)}\nPassword: {password}\n"


def _picture(text: str) -> bytes:
    """A QR code as PNG."""
    out = io.BytesIO()
    segno.make(text, error="l", micro=False).save(out, kind="png", scale=4, border=4)
    return out.getvalue()


def _attach_profile(letter: EmailMessage, profile: bytes) -> None:
    main, _, sub = CONTENT_TYPE.partition("/")
    letter.add_attachment(profile, maintype=main, subtype=sub, filename="mail" + SUFFIX)


def _duration(seconds: int) -> str:
    return f"{seconds // 3600} hours" if seconds >= 7200 else f"{max(seconds // 60, 1)} minutes"
