"""A gatekeeper with all that follows a log-in, members, and guests who have a pickup code."""

import email
import re
from dataclasses import dataclass, replace
from email.message import EmailMessage
from email.policy import default as policy
from pathlib import Path
from typing import Any

from gatekeeper_support import ALICE, House
from support import run

from certmaild.client_watches import ClientWatches
from certmaild.config import default
from certmaild.config_values import Config, Invites
from certmaild.correspondence import Correspondence
from certmaild.guests import code_texts
from certmaild.guests.codes import GuestCodes
from certmaild.guests.first_session import FirstSession
from certmaild.keystore.codes import parse_device_password
from certmaild.keystore.users import seal_bequest
from certmaild.mailbox import account_rows, ways_in
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.audit_log import entries
from certmaild.mailbox.guests import note_code_dies, note_heard, read_guest, write_bequest, write_guest
from certmaild.mailbox.identifiers import CredentialId, UserId
from certmaild.mailbox.layout_accounts import PICKUP_ID, Kind, Role
from certmaild.mailbox.layout_guests import GuestRow
from certmaild.mailbox.opened import OpenMailbox
from certmaild.mailbox.uidsets import ALL_UIDS
from certmaild.protocols.interfaces import Login
from certmaild.protocols.limits import Limits

DAY_S = 86_400
ORDINARY = "bob@elsewhere.example"
NAME = "bob.elsewhere.example@example.com"
_SECRET = re.compile(r"\b(?:[0-9A-HJKMNP-TV-Z]{4}-){4,7}[0-9A-HJKMNP-TV-Z]{1,4}\b")


@dataclass
class Guest:
    user_id: UserId
    code: str


class PickupHouse(House):
    """Alice invites; bob.elsewhere.example is the guest's account name."""

    def __init__(self, directory: Path) -> None:
        self.watches = ClientWatches()
        super().__init__(directory)
        self.config: Config = replace(
            default(directory), domains=("example.com",), invite=Invites(domain="guest.example.com")
        )
        self.correspondence = Correspondence(
            self.engine, self.secrets, self.config, partners=None, seconds=self.clock.seconds
        )
        self.mail = self.correspondence.mail
        self.codes = GuestCodes(
            self.engine,
            self.secrets,
            self.mail,
            self.correspondence.directory,
            self.gatekeeper._mailboxes,
            lambda: self.config,
            self.clock,
            self.in_thread,
        )
        self.watches.watches.append(self.codes.first_session)
        self.gatekeeper.guessed = self.codes.guesses.note

    def make(self, *args: Any, **shared: Any) -> Any:
        self.limits = Limits()
        self.gatekeeper = super().make(*args, watch=self.watches, **shared)
        return self.gatekeeper

    async def in_thread(self, work: Any) -> Any:
        return work()

    def first_session(self) -> FirstSession:
        """Of another worker, say."""
        return FirstSession(self.engine, self.secrets, self.mail, self.gatekeeper._mailboxes, self.clock)

    def invite(self, **row: Any) -> Guest:
        """A guest as an invitation by alice leaves him: nothing but a code opens his mailbox."""
        name = canonical(NAME)
        account = run(self.accounts.create(name, role=Role.GUEST))
        run(self.accounts.add_alias(canonical(ORDINARY), name))
        assert account.device_password is not None
        now = int(self.clock.seconds())
        expires = now + 14 * DAY_S
        alice = run(self.correspondence.directory.recipient(ALICE))
        with run(self.accounts.unlock(name, account.device_password.encode())) as unlocked:
            made = ways_in.new_pickup(self.secrets, account.user_id, unlocked.root, created=now, expires=expires)
            bequest = seal_bequest(alice.public_key, alice.user_id, account.user_id, unlocked.root.reveal())
            taken = list(unlocked.credentials)
        placed = run(self.mail.place(self.code_letter(made.code.text, expires), alice.user_id))
        guest = GuestRow(
            ordinary=ORDINARY,
            inviter=ALICE.lookup,
            inviter_id=alice.user_id.hex(),
            invited_s=now,
            code_expires_s=expires,
            pickup_mid=placed.mid.hex(),
            **row,
        )

        def work(txn: Any) -> None:
            for one in taken:
                account_rows.delete_credential(txn, account.user_id, one)
            account_rows.write_credential(txn, account.user_id, PICKUP_ID, made.row)
            write_guest(txn, self.secrets, account.user_id, guest)
            write_bequest(txn, account.user_id, bequest)
            note_heard(txn, self.secrets, account.user_id, ALICE)
            note_code_dies(txn, account.user_id, expires)
            placed.file(txn)

        run(self.engine.write(work))
        return Guest(account.user_id, made.code.text)

    @staticmethod
    def code_letter(code: str, expires: int) -> EmailMessage:
        return code_texts.code_letter(
            ORDINARY, NAME, code, expires, "", domain="example.com", renewed=False, command=False
        )

    def row(self, guest: Guest) -> GuestRow:
        found = run(self.engine.read(lambda txn: read_guest(txn, self.secrets, guest.user_id)))
        assert found is not None
        return found

    def kinds(self, guest: Guest) -> list[Kind]:
        """Of his ways in."""
        found = run(self.engine.read(lambda txn: list(account_rows.credentials_of(txn, guest.user_id))))
        return sorted(row.head.kind for _, row in found)

    def audited(self) -> list[str]:
        return [row.act for _, row in run(self.engine.read(lambda txn: list(entries(txn, self.secrets))))]

    def opened(self, login: Login) -> OpenMailbox:
        mailbox = run(self.gatekeeper.open_mailbox(login))
        run(mailbox.absorb())
        return mailbox

    def letters(self, login: Login, folder: str = "INBOX") -> list[EmailMessage]:
        """What a session finds in a folder."""
        mailbox = self.opened(login)
        try:
            return run(_read(mailbox, folder))
        finally:
            mailbox.close()

    def of_alice(self) -> list[EmailMessage]:
        login = self.log_in("alice", self.device_password)
        try:
            return self.letters(login)
        finally:
            self.gatekeeper.log_out(login)


def secrets_in(letter: EmailMessage) -> list[str]:
    """Codes and passwords that it shows."""
    return _SECRET.findall(letter.get_content())


def number_of(password: str) -> CredentialId:
    """The id in a device password."""
    code = parse_device_password(password.encode())
    assert code is not None
    assert code.credential_id is not None
    return CredentialId(code.credential_id)


async def _read(mailbox: OpenMailbox, name: str) -> list[EmailMessage]:
    folder = (await mailbox.folders()).by_name(name)
    if folder is None:
        return []
    found = []
    async for block in mailbox.entries(folder.box_id, ALL_UIDS):
        for card in await mailbox.cards(block):
            assert card is not None
            content = mailbox.content(card)
            octets = await content.read(0, 1 << 20)
            message = email.message_from_bytes(octets, policy=policy)
            assert isinstance(message, EmailMessage)
            found.append(message)
    return found
