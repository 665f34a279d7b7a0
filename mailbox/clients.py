"""With what programs, and from where, the ways into a mailbox are used: rows that the server keeps by itself."""

from collections.abc import Callable
from ipaddress import ip_address, ip_network

from certmaild.keystore.errors import SealBroken
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.identifiers import CredentialId, UserId
from certmaild.mailbox.interfaces import ReadTxn, RowSealer, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import credential_key
from certmaild.mailbox.layout_guests import ClientRow, decode, encode


def read_client(txn: ReadTxn, sealer: RowSealer, user_id: UserId, credential_id: CredentialId) -> ClientRow:
    """What is known; an empty row where nothing is. Raises `Damaged`."""
    key = credential_key(user_id, credential_id)
    value = txn.get(Table.CLIENT, key)
    if value is None:
        return ClientRow()
    try:
        return decode(ClientRow, sealer.open_row(Table.CLIENT, key, value))
    except SealBroken as broken:
        raise Damaged(Table.CLIENT) from broken


def change_client(
    txn: WriteTxn,
    sealer: RowSealer,
    user_id: UserId,
    credential_id: CredentialId,
    change: Callable[[ClientRow], ClientRow],
) -> ClientRow:
    """Put what ``change`` makes of the row in its place, and give it; nothing is kept of a way in that is gone."""
    row = change(read_client(txn, sealer, user_id, credential_id))
    key = credential_key(user_id, credential_id)
    if txn.get(Table.CRED, key) is not None:
        txn.put(Table.CLIENT, key, sealer.seal_row(Table.CLIENT, key, encode(row)))
    return row


def network_of(peer: str) -> str:
    """The network that an IP address is kept as: 24 bits, or 48 with IPv6; empty for what is none."""
    try:
        address = ip_address(peer)
    except ValueError:
        return ""
    return str(ip_network((address, 24 if address.version == 4 else 48), strict=False))
