"""A mailbox as it is shown to whoever comes in by a code: not all of it.

With a pickup code, which the inviting sender knows as well, the folder Later stays out of sight: mail of other senders.
With a recovery code only the folder Devices is seen, as INBOX too, so that any mail program and POP3 find it.
"""

from collections.abc import Sequence

from certmaild.mailbox.errors import FolderExists, FolderMissing, NotByThisCode
from certmaild.mailbox.folders import INBOX, SERVICE_NAMES, FolderTable, spelled
from certmaild.mailbox.identifiers import BoxId, CredentialId
from certmaild.mailbox.layout_accounts import Kind
from certmaild.mailbox.opened import OpenMailbox
from certmaild.mailbox.values import (
    AppendResult,
    CopyResult,
    Folder,
    NewMessage,
    ServiceFolder,
    SpecialUse,
    UidSet,
)

HIDDEN_NAME = SERVICE_NAMES[ServiceFolder.LATER]


def narrowed(whole: OpenMailbox, kind: Kind) -> OpenMailbox:
    """What a session sees that came in by a credential of this kind; closing it closes ``whole``."""
    if kind is Kind.PICKUP:
        return WithoutLater(whole)
    return OnlyDevices(whole) if kind is Kind.RECOVERY else whole


class _Narrow(OpenMailbox):
    """The same mailbox under another table of folders; all that others reach is reached by a folder's id from there."""

    def __init__(self, whole: OpenMailbox) -> None:
        super().__init__(*whole.parts)
        self._shown: tuple[FolderTable, FolderTable] | None = None

    async def folders(self) -> FolderTable:
        """See `OpenMailbox.folders`: those that may be seen."""
        table = await super().folders()
        if self._shown is None or self._shown[0] is not table:
            self._shown = table, self._narrow(table)
        return self._shown[1]

    def _narrow(self, table: FolderTable) -> FolderTable:
        raise NotImplementedError


def _table(whole: FolderTable, folders: Sequence[Folder], subscriptions: frozenset[str]) -> FolderTable:
    names = {folder.name: folder for folder in folders}
    ids = {folder.box_id: folder for folder in reversed(folders)}
    return FolderTable(whole.version, tuple(folders), whole.keywords, subscriptions, names, ids)


def _is_hidden(name: str) -> bool:
    return spelled(name) == HIDDEN_NAME or spelled(name).startswith(HIDDEN_NAME + "/")


class WithoutLater(_Narrow):
    """All but the folder Later; its name is taken, since a folder that somebody calls so becomes it."""

    def _narrow(self, table: FolderTable) -> FolderTable:
        shown = [folder for folder in table if folder.service is not ServiceFolder.LATER]
        return _table(table, shown, frozenset(name for name in table.subscriptions if not _is_hidden(name)))

    async def create_folder(self, name: str, special_use: SpecialUse | None = None) -> Folder:
        """See `OpenMailbox.create_folder`."""
        if _is_hidden(name):
            raise FolderExists
        return await super().create_folder(name, special_use)

    async def delete_folder(self, name: str) -> None:
        """See `OpenMailbox.delete_folder`."""
        if (await self.folders()).by_name(name) is None:
            raise FolderMissing
        await super().delete_folder(name)

    async def rename_folder(self, old: str, new: str) -> None:
        """See `OpenMailbox.rename_folder`."""
        if (await self.folders()).by_name(old) is None:
            raise FolderMissing
        if _is_hidden(new):
            raise FolderExists
        await super().rename_folder(old, new)

    async def set_subscribed(self, name: str, subscribed: bool) -> None:
        """See `OpenMailbox.set_subscribed`."""
        if _is_hidden(name):
            raise FolderMissing
        await super().set_subscribed(name, subscribed)


class OnlyDevices(_Narrow):
    """The folder Devices, in which messages may be read, marked and removed; nothing else is there."""

    def _narrow(self, table: FolderTable) -> FolderTable:
        devices = next((folder for folder in table if folder.service is ServiceFolder.DEVICES), None)
        if devices is None:
            return _table(table, (), frozenset())
        inbox = Folder(INBOX, devices.box_id, None, True)
        shown = Folder(devices.name, devices.box_id, None, True, False, devices.service)
        return _table(table, (inbox, shown), frozenset((INBOX, devices.name)))

    async def create_folder(self, name: str, special_use: SpecialUse | None = None) -> Folder:
        """Refused."""
        raise NotByThisCode

    async def delete_folder(self, name: str) -> None:
        """Refused."""
        raise NotByThisCode

    async def rename_folder(self, old: str, new: str) -> None:
        """Refused."""
        raise NotByThisCode

    async def set_subscribed(self, name: str, subscribed: bool) -> None:
        """Refused."""
        raise NotByThisCode

    async def append(self, box_id: BoxId, messages: Sequence[NewMessage]) -> AppendResult:
        """Refused."""
        raise NotByThisCode

    async def copy(self, box_id: BoxId, uids: UidSet, to_box: BoxId) -> CopyResult:
        """Refused."""
        raise NotByThisCode

    async def move(self, box_id: BoxId, uids: UidSet, to_box: BoxId, *, by: CredentialId | None = None) -> CopyResult:
        """Refused."""
        raise NotByThisCode
