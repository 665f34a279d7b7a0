"""Mailboxes on trial: how they end, in the transaction of whoever ends them. What they held is removed afterwards."""

from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.account_rows import find_address, read_account, set_state
from certmaild.mailbox.addresses import Address, canonical
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.guests import read_guest
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.interfaces import WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import Role, State, encode_retired
from certmaild.mailbox.layout_queue import Due, due_key
from certmaild.mailbox.removal import KEY_TABLES, delete_rows


def note_trial_due(txn: WriteTxn, user_id: UserId, at_s: int) -> None:
    """Have it looked then how a trial stands. What is no longer so at that time is of no effect."""
    txn.put(Table.QDUE, due_key(Due.TRIAL, at_s, user_id), b"")


def end_trial(txn: WriteTxn, secrets: ServerSecrets, user_id: UserId, now: int) -> bool:
    """Take a mailbox on trial from everybody: keys and addresses are gone with the commit, sessions end.

    The account's name is never anybody's again; the ordinary address is free. False, with nothing done, where there is
    no such mailbox any more. What it held is removed by who looks at what `note_trial_due` noted.
    """
    row, account = read_guest(txn, secrets, user_id), read_account(txn, secrets, user_id)
    if row is None or account is None or not row.trial_until_s:
        return False
    if account.state is State.PARKED or account.role is not Role.GUEST:
        return False
    set_state(txn, secrets, user_id, State.PARKED)
    txn.put(Table.ADDR, account.address.encode("utf-8"), encode_retired())
    txn.delete(Table.ADDR, canonical(row.ordinary).base.key)
    for table in KEY_TABLES:
        delete_rows(txn, table, user_id)
    note_trial_due(txn, user_id, now)
    txn.announce(Change(ChangeKind.ACCOUNT, user_id))
    return True


def give_way(txn: WriteTxn, secrets: ServerSecrets, ordinary: Address, now: int) -> None:
    """End the trial that an ordinary address has, if it has one: somebody is invited there.

    Mail of others is never sealed to a mailbox whose code went by ordinary mail.
    """
    target = find_address(txn, ordinary.base)
    if target is not None:
        end_trial(txn, secrets, target.user_id, now)
