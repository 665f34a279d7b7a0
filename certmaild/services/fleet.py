"""The devices of one mailbox, with what its owner may know of them: names, days of use, networks and programs."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.keystore.users import KeyRing
from certmaild.mailbox.account_rows import read_day
from certmaild.mailbox.clients import read_client
from certmaild.mailbox.devices import devices_of, id_text
from certmaild.mailbox.identifiers import CredentialId, UserId
from certmaild.mailbox.interfaces import ReadTxn
from certmaild.mailbox.layout_accounts import CredentialRow
from certmaild.mailbox.layout_guests import ClientRow
from certmaild.mailbox.ways_in import label_of
from certmaild.services.commands import folded

_FIRST_DAY = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Device:
    """One password of the mailbox."""

    credential_id: CredentialId
    label: str
    """As its owner named it; empty: he did not."""
    created: int
    """Seconds since 1970."""
    day: int | None
    """Of last use, in days since 1970."""
    client: ClientRow

    @property
    def name(self) -> str:
        """What it is called: its label, else its id."""
        return self.label or id_text(self.credential_id)

    @property
    def made(self) -> str:
        """The day it was made, in UTC."""
        return datetime.fromtimestamp(self.created, UTC).date().isoformat()

    @property
    def last_used(self) -> str:
        """The day of last use, in UTC."""
        return day_text(self.day)

    @property
    def program(self) -> str:
        """The mail program, if it said what it is."""
        return f"{self.client.program} {self.client.program_version}".strip()

    def is_called(self, name: str) -> bool:
        """Whether somebody who writes this name means it; who writes none means none."""
        return bool(name) and folded(name) in (folded(self.label), folded(id_text(self.credential_id)))


def day_text(day: int | None) -> str:
    """A day of use, in days since 1970, as people read it."""
    return "never" if day is None else (_FIRST_DAY + timedelta(days=day)).isoformat()


def read_fleet(txn: ReadTxn, secrets: ServerSecrets, keys: KeyRing) -> list[Device]:
    """All of a user's devices, the oldest first. Raises `SealBroken`, `KeysClosed`, `Damaged`."""
    user_id = UserId(keys.user_id)
    found = [read_device(txn, secrets, keys, one, row) for one, row in devices_of(txn, user_id)]
    return sorted(found, key=lambda device: (device.created, device.credential_id))


def read_device(
    txn: ReadTxn, secrets: ServerSecrets, keys: KeyRing, credential_id: CredentialId, row: CredentialRow
) -> Device:
    """One of them."""
    user_id = UserId(keys.user_id)
    return Device(
        credential_id,
        label_of(row, credential_id, keys),
        row.head.created,
        read_day(txn, secrets, user_id, credential_id),
        read_client(txn, secrets, user_id, credential_id),
    )
