"""A mailbox with devices, and all that keeps its folder Devices, over a memory engine and a test's clock."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mailbox_support import NOW, House, make_house
from support import run
from twisted.internet.task import Clock

from certmaild.config import default
from certmaild.config_values import Devices
from certmaild.correspondence import Correspondence
from certmaild.mailbox.account_rows import read_account, write_account, write_credential, write_day
from certmaild.mailbox.devices import devices_of
from certmaild.mailbox.identifiers import CredentialId, Mid
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import Kind, Option
from certmaild.mailbox.layout_guests import Service, ServiceRow
from certmaild.mailbox.pool import MailboxPool
from certmaild.mailbox.service_marks import marks_of, write_mark
from certmaild.mailbox.ways_in import new_code, with_label
from certmaild.protocols.interfaces import ClientId, Login
from certmaild.protocols.interfaces import Service as Protocol
from certmaild.services import texts
from certmaild.services.expiry import DeviceExpiry
from certmaild.services.steward import LATER_S, Steward

DAY_S = 86_400


@dataclass
class Home:
    """One user who wants the folder Devices."""

    house: House
    clock: Clock
    correspondence: Correspondence
    steward: Steward
    settings: Devices = field(default_factory=Devices)

    def add(self, label: str = "", kind: Kind = Kind.DEVICE, *, made_s: int | None = None) -> CredentialId:
        """A way in."""
        house = self.house
        made = new_code(
            house.secrets, house.user_id, house.user.root, kind, created=made_s or int(self.clock.seconds())
        )
        row = with_label(made.row, made.credential_id, label, house.keys) if label else made.row
        run(house.engine.write(lambda txn: write_credential(txn, house.user_id, made.credential_id, row)))
        return made.credential_id

    def show_password(self, number: CredentialId, password: str = "the password") -> Mid:
        """A message in INBOX that shows it."""
        house = self.house
        placed = run(self.correspondence.mail.place(texts.letter(password, "shown"), house.user_id))
        row = ServiceRow(kind=Service.PASSWORD, number=number, made_s=int(self.clock.seconds()))

        def work(txn: Any) -> None:
            placed.file(txn)
            write_mark(txn, house.secrets, house.user_id, placed.mid, row)

        run(house.engine.write(work))
        return placed.mid

    def log_in(self, number: CredentialId, peer: str = "192.0.2.7", client_id: ClientId = ()) -> None:
        """A session that begins now and lasts; what follows from it is done when this returns."""
        house = self.house
        login = Login(house.user_id, "joe@example.com", number, False, house.keys, Kind.DEVICE)
        day = int(self.clock.seconds()) // DAY_S
        run(house.engine.write(lambda txn: write_day(txn, house.secrets, house.user_id, number, day)))
        run(self.steward.entered(login, Protocol.IMAP, peer))
        if client_id:
            run(self.steward.told(login, client_id, peer))
        self.clock.advance(LATER_S)

    def texts(self, folder: str = "Devices") -> dict[str, str]:
        """Subject and content of each message in a folder."""
        if all(one.name != folder for one in run(self.house.mailbox.folders())):
            return {}
        found = {}
        for entry in self.house.entries(folder):
            card = run(self.house.mailbox.card(entry))
            assert card is not None
            content = run(self.house.mailbox.content(card).whole()).decode()
            found[content.partition("\r\nSubject: ")[2].partition("\r\n")[0]] = content
        return found

    @property
    def marks(self) -> dict[Mid, ServiceRow]:
        house = self.house
        return run(house.engine.read(lambda txn: dict(marks_of(txn, house.secrets, house.user_id))))

    @property
    def devices(self) -> list[CredentialId]:
        return run(self.house.engine.read(lambda txn: [one for one, _ in devices_of(txn, self.house.user_id)]))

    def want_folders(self, options: Option) -> None:
        """Set the account's options."""
        self.change_account(options=options)

    def change_account(self, **changes: Any) -> None:
        """Change the account's row."""
        house = self.house

        def work(txn: Any) -> None:
            account = read_account(txn, house.secrets, house.user_id)
            assert account is not None
            write_account(txn, house.secrets, house.user_id, replace(account, **changes))

        run(house.engine.write(work))

    def expiry(self) -> DeviceExpiry:
        """The job that looks at the time."""
        house = self.house
        return DeviceExpiry(house.engine, house.secrets, self.correspondence.mail, lambda: self.settings, self.clock)


def make_home(folder: Path) -> Home:
    """Without any way in yet."""
    house = make_house(folder)
    house.put(Table.PK, house.user_id, house.user.public_key_row)
    clock = Clock()
    clock.advance(NOW)
    config = replace(default(str(folder)), hostname="mx.example.com", domains=("example.com",))
    correspondence = Correspondence(house.engine, house.secrets, config, partners=None, seconds=clock.seconds)
    steward = Steward(house.engine, house.secrets, correspondence.mail, clock)
    house.mailbox.close()
    house.pool = MailboxPool(house.engine, house.secrets, house.engine.hub, clock.seconds)
    house.pool.stirred = steward.stirred
    house.mailbox = house.pool.open(house.user_id, "joe@example.com", house.keys)
    home = Home(house, clock, correspondence, steward)
    home.want_folders(Option.SERVICE_FOLDERS)
    return home
