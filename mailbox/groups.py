"""Groups: addresses here that stand for several others. Their rows, what one expands to, and changing them by command.

A group's address has a row in ``addr`` too, so that it is nobody else's; as an account it is unknown.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from certmaild.keystore.errors import SealBroken
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox import audit_log
from certmaild.mailbox.account_rows import find_address
from certmaild.mailbox.addresses import Address, canonical
from certmaild.mailbox.errors import AccountMissing, AddressError, AddressTaken, Damaged, MailboxError
from certmaild.mailbox.interfaces import Engine, ReadTxn, RowSealer, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import encode_group
from certmaild.mailbox.layout_guests import AuditRow, GroupRow, decode, encode

DEPTH = 5
"""Groups within groups; what lies deeper gets nothing."""


class Senders(StrEnum):
    """Who may write to a group."""

    MEMBERS = "members"
    """Members of this server."""
    LIST = "list"
    """Who is in it, logged in."""
    ANYONE = "anyone"
    """Other servers too."""


class GroupRefused(MailboxError):
    """A change to a group that cannot be; its text is a sentence."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """A group as a recipient."""

    address: Address
    senders: Senders
    members: tuple[Address, ...]
    """Each once, groups within it expanded."""


def find_group(txn: ReadTxn, sealer: RowSealer, address: Address) -> GroupRow | None:
    """The group that has this address, as it stands or without its ``+tag``. Raises `Damaged`."""
    row = _read(txn, sealer, address.key)
    if row is None and address.detail is not None:
        row = _read(txn, sealer, address.base.key)
    return row


def expand(txn: ReadTxn, sealer: RowSealer, address: Address) -> Expansion | None:
    """Whom a group stands for; None for what is no group. Loops are cut, and groups below `DEPTH`."""
    top = find_group(txn, sealer, address)
    if top is None:
        return None
    found: dict[bytes, Address] = {}
    seen = {canonical(top.display).key}

    def walk(row: GroupRow, depth: int) -> None:
        for member in map(canonical, row.members):
            inner = find_group(txn, sealer, member)
            if inner is None:
                found.setdefault(member.key, member)
            elif depth < DEPTH and (key := canonical(inner.display).key) not in seen:
                seen.add(key)
                walk(inner, depth + 1)

    walk(top, 1)
    return Expansion(canonical(top.display), Senders(top.senders), tuple(found.values()))


def all_groups(txn: ReadTxn, sealer: RowSealer) -> Iterator[GroupRow]:
    """Every group, by address."""
    for key, value in txn.scan(Table.GROUP, b""):
        yield _opened(sealer, key, value)


def _read(txn: ReadTxn, sealer: RowSealer, key: bytes) -> GroupRow | None:
    value = txn.get(Table.GROUP, key)
    return None if value is None else _opened(sealer, key, value)


def _opened(sealer: RowSealer, key: bytes, value: bytes) -> GroupRow:
    try:
        return decode(GroupRow, sealer.open_row(Table.GROUP, key, value))
    except SealBroken as broken:
        raise Damaged(Table.GROUP) from broken


class Groups:
    """Changes to groups; ``hosted`` are the domains here, ``most`` members a group may have."""

    def __init__(
        self,
        engine: Engine,
        secrets: ServerSecrets,
        *,
        hosted: Sequence[str],
        most: int,
        seconds: Callable[[], float] = time.time,
        by: str = audit_log.SERVER,
    ) -> None:
        self._engine = engine
        self._secrets = secrets
        self._hosted = frozenset(hosted)
        self._most = most
        self._seconds = seconds
        self._by = by

    async def put(
        self, address: Address, members: Sequence[Address], *, senders: Senders | None = None, adds: bool = False
    ) -> GroupRow:
        """Make a group of these members, or change it; with ``adds`` those that it has stay.

        Raises `AddressTaken`, `AddressError`, and `GroupRefused` for members that cannot be.
        """
        if address.is_literal or address.detail is not None:
            raise AddressError("a group's address needs a domain name, and no tag")

        def work(txn: WriteTxn) -> GroupRow:
            old = _read(txn, self._secrets, address.key)
            if old is None and txn.get(Table.ADDR, address.key) is not None:
                raise AddressTaken
            before = tuple(map(canonical, old.members)) if old is not None else ()
            wanted = dict.fromkeys((*before, *members) if adds else members)
            row = GroupRow(
                display=address.display if old is None else old.display,
                members=tuple(one.display for one in wanted),
                made_s=self._now() if old is None else old.made_s,
                senders=str(senders or (Senders.MEMBERS if old is None else old.senders)),
            )
            self._check(txn, [one for one in wanted if one not in before], len(wanted))
            self._write(txn, address, row)
            self._check_reach(txn, address)
            if old is None:
                txn.put(Table.ADDR, address.key, encode_group())
            self._note(txn, "group made" if old is None else "group changed", row)
            return row

        return await self._engine.write(work)

    async def drop(self, address: Address, members: Sequence[Address]) -> GroupRow:
        """Take members out of a group. Raises `AccountMissing`, and `GroupRefused` for who is not in it."""

        def work(txn: WriteTxn) -> GroupRow:
            old = self._existing(txn, address)
            before = dict.fromkeys(map(canonical, old.members))
            for one in members:
                if one not in before:
                    raise GroupRefused(f"{one.display} is not in {old.display}")
                del before[one]
            row = msgspec.structs.replace(old, members=tuple(one.display for one in before))
            self._write(txn, address, row)
            self._note(txn, "group changed", row)
            return row

        return await self._engine.write(work)

    async def remove(self, address: Address) -> None:
        """Remove a group; its members stay what they are. Raises `AccountMissing`."""

        def work(txn: WriteTxn) -> None:
            row = self._existing(txn, address)
            txn.delete(Table.GROUP, address.key)
            txn.delete(Table.ADDR, address.key)
            self._note(txn, "group removed", row)

        await self._engine.write(work)

    async def show(self, address: Address) -> tuple[GroupRow, Expansion]:
        """A group, and whom it reaches. Raises `AccountMissing`."""

        def work(txn: ReadTxn) -> tuple[GroupRow, Expansion]:
            row, reached = self._existing(txn, address), expand(txn, self._secrets, address)
            if reached is None:
                raise AccountMissing
            return row, reached

        return await self._engine.read(work)

    async def list_all(self) -> list[GroupRow]:
        """All groups, by address."""
        return await self._engine.scan(lambda txn: list(all_groups(txn, self._secrets)))

    def _existing(self, txn: ReadTxn, address: Address) -> GroupRow:
        row = _read(txn, self._secrets, address.key)
        if row is None:
            raise AccountMissing
        return row

    def _check(self, txn: ReadTxn, new: Sequence[Address], count: int) -> None:
        if count > self._most:
            raise GroupRefused(
                f"A group has at most {self._most} members (limits.group_members): put groups into a group"
            )
        for one in new:
            if one.domain not in self._hosted:
                continue
            if find_address(txn, one) is None and find_group(txn, self._secrets, one) is None:
                raise GroupRefused(f"Nobody here has the address {one.display}")

    def _check_reach(self, txn: ReadTxn, address: Address) -> None:
        """Strangers' mail is never passed on to other servers: a group that anyone may write to stays in the house."""
        reached = expand(txn, self._secrets, address)
        if reached is None or reached.senders is not Senders.ANYONE:
            return
        outside = [one.display for one in reached.members if one.domain not in self._hosted]
        if outside:
            raise GroupRefused(
                f"{outside[0]} is elsewhere: a group that anyone may write to has members with a mailbox here only"
            )

    def _now(self) -> int:
        return int(self._seconds())

    def _write(self, txn: WriteTxn, address: Address, row: GroupRow) -> None:
        txn.put(Table.GROUP, address.key, self._secrets.seal_row(Table.GROUP, address.key, encode(row)))

    def _note(self, txn: WriteTxn, act: str, row: GroupRow) -> None:
        detail = f"{len(row.members)} members, written to by {row.senders}"
        audit_log.note(
            txn,
            self._secrets,
            AuditRow(at_s=self._now(), by=self._by, act=act, whom=canonical(row.display).lookup, detail=detail),
        )
