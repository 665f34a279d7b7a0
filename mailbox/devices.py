"""The devices of a mailbox, that is its passwords: revoking them, by word or by deleting the message that tells of one.

A message of the folder Devices that leaves it, whatever way, revokes the device it tells of, in that transaction.
Nothing is revoked of the device that does it, of the last one, and by POP3: the message is marked to be written anew.
"""

from collections.abc import Iterator

import msgspec

from certmaild.keystore.codes import ALPHABET
from certmaild.mailbox import audit_log
from certmaild.mailbox.account_rows import credentials_of, delete_credential, read_account
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.folders import read_rows
from certmaild.mailbox.identifiers import BoxId, CredentialId, Mid, UserId
from certmaild.mailbox.interfaces import ReadTxn, RowSealer, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import PICKUP_ID, SINGLE_PASSWORD_ID, CredentialRow, Kind
from certmaild.mailbox.layout_guests import AuditRow, Service, ServiceRow
from certmaild.mailbox.ownership import read_own
from certmaild.mailbox.pages import Shelf
from certmaild.mailbox.service_marks import marks_of, read_mark, remove_mark, write_mark
from certmaild.mailbox.values import ServiceFolder

DEVICE_KINDS = (Kind.PASSWORD, Kind.DEVICE)
WORDS = {SINGLE_PASSWORD_ID: "password", PICKUP_ID: "pickup"}
"""What has no letters of its own: there is one at most."""
RETURNED = "returned"
"""In the place of a mark's digest: its message has left the folder and has to come back."""


def id_text(credential_id: CredentialId) -> str:
    """A credential's id as people see it: the first four letters of its device password."""
    if credential_id in WORDS:
        return WORDS[credential_id]
    return "".join(ALPHABET[credential_id >> shift & 31] for shift in (15, 10, 5, 0))


def devices_of(txn: ReadTxn, user_id: UserId) -> Iterator[tuple[CredentialId, CredentialRow]]:
    """The ways in that people use daily, by id: not codes for pickup and recovery."""
    return ((one, row) for one, row in credentials_of(txn, user_id) if row.head.kind in DEVICE_KINDS)


def note_made(
    txn: WriteTxn, sealer: RowSealer, user_id: UserId, credential_id: CredentialId, *, now: int, by: str = ""
) -> None:
    """Say in the audit log that a device was made; ``by``: default the user himself."""
    _note(txn, sealer, user_id, "device made", id_text(credential_id), now, by)


def revoke(
    txn: WriteTxn, sealer: RowSealer, user_id: UserId, credential_id: CredentialId, *, now: int, by: str = ""
) -> bool:
    """Remove a device; its sessions end within a second. Whether it was there. ``by`` as in `note_made`."""
    if not delete_credential(txn, user_id, credential_id):
        return False
    _note(txn, sealer, user_id, "device revoked", id_text(credential_id), now, by)
    txn.announce(Change(ChangeKind.ACCOUNT, user_id))
    return True


def _note(txn: WriteTxn, sealer: RowSealer, user_id: UserId, act: str, detail: str, now: int, by: str) -> None:
    account = read_account(txn, sealer, user_id)
    whom = "" if account is None else account.address
    audit_log.note(txn, sealer, AuditRow(at_s=now, by=by or whom, act=act, whom=whom, detail=detail))


def let_folder_go(txn: WriteTxn, sealer: RowSealer, user_id: UserId) -> None:
    """The user wants no folder Devices: its messages are ordinary ones from now on."""
    for mid, mark in list(marks_of(txn, sealer, user_id)):
        if mark.kind in (Service.DEVICE, Service.INSTRUCTION):
            remove_mark(txn, user_id, mid)


def messages_left(
    txn: WriteTxn,
    shelf: Shelf,
    sealer: RowSealer,
    box_id: BoxId,
    mids: bytes,
    *,
    by: CredentialId | None,
    now: int,
    is_moved: bool = False,
) -> None:
    """Messages, 16 octets of ``mids`` each, are leaving a folder by the hand of whoever logged in with ``by``.

    None: it is not said that they mean anything by it. POP3 programs remove what they have fetched, and with a recovery
    code the folder Devices is what they fetch.
    """
    user_id = shelf.user_id
    marked = [Mid(key[16:]) for key, _ in txn.scan(Table.SERVICE, user_id, user_id + b"\xff" * 17)]
    if not marked:
        return
    leaving = {mids[at : at + 16] for at in range(0, len(mids), 16)}
    found = [mid for mid in marked if mid in leaving]
    if not found:
        return
    folders = read_rows(txn, shelf).folders
    is_devices = any(row.box_id == box_id and row.special_use == ServiceFolder.DEVICES for row in folders)
    for mid in found:
        mark = read_mark(txn, sealer, user_id, mid)
        if mark is None:
            continue
        if is_devices and mark.kind == Service.DEVICE:
            _device_left(txn, sealer, user_id, mid, mark, by, now)
        elif is_devices and mark.kind == Service.INSTRUCTION:
            _bring_back(txn, sealer, user_id, mid, mark)
        elif mark.kind == Service.PASSWORD and not is_moved and read_own(txn, sealer, user_id, mid) is None:
            remove_mark(txn, user_id, mid)
    txn.announce(Change(ChangeKind.ACCOUNT, user_id))


def _device_left(
    txn: WriteTxn, sealer: RowSealer, user_id: UserId, mid: Mid, mark: ServiceRow, by: CredentialId | None, now: int
) -> None:
    others = [one for one, _ in devices_of(txn, user_id) if one != mark.number]
    if by is None or mark.number == by or not others:
        _bring_back(txn, sealer, user_id, mid, mark)
        return
    remove_mark(txn, user_id, mid)
    revoke(txn, sealer, user_id, CredentialId(mark.number), now=now)


def _bring_back(txn: WriteTxn, sealer: RowSealer, user_id: UserId, mid: Mid, mark: ServiceRow) -> None:
    write_mark(txn, sealer, user_id, mid, msgspec.structs.replace(mark, digest=RETURNED))
