"""Making, changing and removing accounts; the command line's half of the store, safe beside a running server.

Every change announces `ChangeKind.ACCOUNT`, so that sessions and caches in all processes look again. Nothing here reads
mail: what needs a user's keys is authorised by one of his secrets.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from certmaild.keystore.codes import parse_device_password
from certmaild.keystore.errors import SealBroken, SecretsMissing
from certmaild.keystore.secret import Secret
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.keystore.users import KeyRing, create_user_keys
from certmaild.mailbox import account_rows as rows
from certmaild.mailbox import audit_log, devices, ways_in
from certmaild.mailbox.addresses import MAX_LOCAL_OCTETS, Address, canonical
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.errors import AccountMissing, AddressError, AddressTaken, Damaged, SecretRefused
from certmaild.mailbox.guests import was_given_its_name
from certmaild.mailbox.identifiers import CredentialId, UserId
from certmaild.mailbox.interfaces import Engine, ReadTxn, WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import (
    NO_OPTIONS,
    SINGLE_PASSWORD_ID,
    Account,
    CredentialRow,
    Kind,
    Option,
    Role,
    SentCopies,
    State,
    encode_alias,
    encode_owner,
    encode_retired,
)
from certmaild.mailbox.layout_guests import AuditRow
from certmaild.mailbox.new_accounts import AccountRows, prepare_account, write_account_rows
from certmaild.mailbox.removal import KEY_TABLES, delete_rows, remove_user
from certmaild.mailbox.values import MAX_FOLDERS

ALL_KINDS = frozenset(Kind)


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What creating an account shows once."""

    user_id: UserId
    address: str
    device_password: str | None = field(repr=False)
    """None when a human password was given."""
    recovery_code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Prepared:
    """An account that can be made."""

    new: NewAccount
    devices: tuple[tuple[str, str], ...] = field(repr=False)
    """Names, and their passwords."""
    rows: AccountRows = field(repr=False)


@dataclass(frozen=True, slots=True)
class Unlocked:
    """A user whose secret was right: enough to add ways in. Use it in ``with``; leaving it overwrites the keys."""

    user_id: UserId
    address: str
    role: Role
    credential_id: CredentialId
    credentials: dict[CredentialId, CredentialRow]
    root: Secret
    keys: KeyRing

    def __enter__(self) -> "Unlocked":
        return self

    def __exit__(self, *_: object) -> None:
        self.keys.close()
        self.root.wipe()


class Accounts:
    """Changes to accounts over one engine; ``seconds`` is wall-clock time. ``by`` stands in the audit log.

    Stretching a password blocks for its 250 ms and more: the command line, which calls this, has nothing else to do.
    """

    def __init__(
        self,
        engine: Engine,
        secrets: ServerSecrets,
        seconds: Callable[[], float] = time.time,
        *,
        by: str = audit_log.SERVER,
    ) -> None:
        self._engine = engine
        self._secrets = secrets
        self._seconds = seconds
        self._by = by

    def _now(self) -> int:
        return int(self._seconds())

    def _note(self, txn: WriteTxn, act: str, whom: str, detail: str = "") -> None:
        row = AuditRow(at_s=self._now(), by=self._by, act=act, whom=whom, detail=detail)
        audit_log.note(txn, self._secrets, row)

    # Accounts.

    async def create(
        self,
        address: Address,
        *,
        password: bytes | None = None,
        rounds: int = 64,
        role: Role = Role.MEMBER,
        octets_limit: int | None = None,
        messages_limit: int | None = None,
        sent_copies: SentCopies | None = None,
        options: Option = NO_OPTIONS,
    ) -> NewAccount:
        """Make an account with its special folders, a recovery code, and a device password unless there is a password.

        Without ``sent_copies`` a member's copies are his client's, a guest's and a program's the server's (PROTOCOLS
        section 7). A program's device password only submits.
        Raises `AddressTaken`, `AddressError` (tag, literal, or a local part above 64 octets), `ValueError` for an
        empty password.
        """
        check_own(address)
        now = self._now()
        if sent_copies is None:
            sent_copies = SentCopies.CLIENT if role.is_member else SentCopies.SERVER
        account = Account(
            State.ACTIVE,
            role,
            sent_copies,
            octets_limit,
            messages_limit,
            now,
            now,
            address.lookup,
            address.display,
            options,
        )
        return await self._create(account, password, rounds, replaces=None)

    async def start_over(self, address: Address, *, password: bytes | None = None, rounds: int = 64) -> NewAccount:
        """A new, empty account for the same address; the old one is parked with all its mail (KEYS section 10).

        UIDVALIDITY is higher than any of the old one's. Raises `AccountMissing`, `ValueError` for an empty password.
        """
        old_id, old = await self._account(address)
        account = replace(old, state=State.ACTIVE, created=self._now())
        return await self._create(account, password, rounds, replaces=(old_id, old))

    def prepare(
        self,
        address: Address,
        *,
        role: Role = Role.MEMBER,
        octets_limit: int | None = None,
        options: Option = NO_OPTIONS,
        devices: Sequence[str] = ("",),
    ) -> Prepared:
        """An account with device passwords of these names, not made yet: its passwords can be kept before `make_all`.

        Raises `AddressError` as `create` does, `ValueError` for a device's name that is too long.
        """
        check_own(address)
        now = self._now()
        sent = SentCopies.CLIENT if role.is_member else SentCopies.SERVER
        names = address.lookup, address.display
        account = Account(State.ACTIVE, role, sent, octets_limit, None, now, now, *names, options)
        return self._prepare(account, None, 0, None, devices)

    async def make_all(self, prepared: Sequence[Prepared]) -> list[str]:
        """Make prepared accounts in one transaction; the addresses that were taken meanwhile, which are left alone."""

        def work(txn: WriteTxn) -> list[str]:
            taken = []
            for one in prepared:
                try:
                    self._write_new(txn, one.rows, None)
                except AddressTaken:
                    taken.append(one.new.address)
            return taken

        return await self._engine.write(work)

    async def _create(
        self, account: Account, password: bytes | None, rounds: int, *, replaces: tuple[UserId, Account] | None
    ) -> NewAccount:
        prepared = self._prepare(account, password, rounds, replaces, ("",))
        await self._engine.write(lambda txn: self._write_new(txn, prepared.rows, replaces))
        return prepared.new

    def _prepare(
        self,
        account: Account,
        password: bytes | None,
        rounds: int,
        replaces: tuple[UserId, Account] | None,
        names: Sequence[str],
    ) -> Prepared:
        now, secrets = self._now(), self._secrets
        user = create_user_keys(secrets)
        user_id = UserId(user.user_id)
        try:
            recovery = ways_in.new_code(secrets, user_id, user.root, Kind.RECOVERY, created=now)
            ways = [(recovery.credential_id, recovery.row)]
            devices: list[tuple[str, str]] = []
            if password is not None:
                made = ways_in.new_password(secrets, user_id, password, user.root, rounds=rounds, created=now)
                ways.append((SINGLE_PASSWORD_ID, made))
                names = ()
            for name in names:
                device = ways_in.new_code(
                    secrets,
                    user_id,
                    user.root,
                    Kind.DEVICE,
                    created=now,
                    taken=dict(ways).__contains__,
                    limits=ways_in.limits_for(account.role),
                )
                labelled = ways_in.with_label(device.row, device.credential_id, name, user.keys) if name else device.row
                ways.append((device.credential_id, labelled))
                devices.append((name, device.code.text))
            # Each folder that the old account made may have been numbered one above the time.
            least = 0 if replaces is None else max(account.last_uid_validity, now) + 2 * MAX_FOLDERS
            made_rows = prepare_account(account, user, ways, now=now, least=least)
        finally:
            user.root.wipe()
            user.keys.close()
        first = devices[0][1] if devices else None
        new = NewAccount(user_id, account.address, first, recovery.code.text)
        return Prepared(new, tuple(devices), made_rows)

    def _write_new(self, txn: WriteTxn, made: AccountRows, replaces: tuple[UserId, Account] | None) -> None:
        write_account_rows(txn, self._secrets, made, replaces=None if replaces is None else encode_owner(replaces[0]))
        if replaces is not None:
            rows.set_state(txn, self._secrets, replaces[0], State.PARKED)
            txn.announce(Change(ChangeKind.ACCOUNT, replaces[0]))
            self._note(txn, "account started over", made.account.address)
        else:
            self._note(txn, "account made", made.account.address, f"role {made.account.role.name.lower()}")

    async def _account(self, address: Address) -> tuple[UserId, Account]:
        def work(txn: ReadTxn) -> tuple[UserId, Account]:
            target = rows.find_address(txn, address)
            account = None if target is None else rows.read_account(txn, self._secrets, target.user_id)
            if target is None or account is None:
                raise AccountMissing
            return target.user_id, account

        return await self._engine.read(work)

    async def set_state(self, address: Address, state: State) -> None:
        """Disable or enable. Sessions of a disabled account end within a second. Raises `AccountMissing`."""
        act = "account enabled" if state is State.ACTIVE else "account disabled"
        await self.change(address, lambda account: replace(account, state=state), act=act)

    async def change(
        self, address: Address, change: Callable[[Account], Account], *, act: str = "account changed", detail: str = ""
    ) -> Account:
        """Put what ``change`` makes of the account in its place, and give it. Raises `AccountMissing`.

        Servers take it at once, in whatever process: they read limits and settings where they need them.
        """
        user_id, _ = await self._account(address)

        def work(txn: WriteTxn) -> Account:
            account = rows.read_account(txn, self._secrets, user_id)
            if account is None:
                raise AccountMissing
            account = change(account)
            if Option.SERVICE_FOLDERS not in account.options:
                devices.let_folder_go(txn, self._secrets, user_id)
            rows.write_account(txn, self._secrets, user_id, account)
            txn.announce(Change(ChangeKind.ACCOUNT, user_id))
            self._note(txn, act, account.address, detail)
            return account

        return await self._engine.write(work)

    async def remove(self, address: Address, *, also: Callable[[WriteTxn], None] = lambda txn: None) -> int:
        """Remove an account, its aliases and its mail; how many messages it held. Raises `AccountMissing`.

        Keys and addresses go in the first commit, with what ``also`` writes; the rest in slices; after a crash
        `remove_parked` finishes it. The name that a guest was given is never anybody's again.
        """
        user_id, account = await self._account(address)

        def work(txn: WriteTxn) -> None:
            key = account.address.encode("utf-8")
            rows.set_state(txn, self._secrets, user_id, State.PARKED)
            if was_given_its_name(txn, self._secrets, user_id):
                txn.put(Table.ADDR, key, encode_retired())
            else:
                txn.delete(Table.ADDR, key)
            also(txn)
            for alias in [alias for alias, target in rows.all_aliases(txn) if target == account.address]:
                txn.delete(Table.ADDR, alias.encode("utf-8"))
            for table in KEY_TABLES:
                delete_rows(txn, table, user_id)
            txn.announce(Change(ChangeKind.ACCOUNT, user_id))
            self._note(txn, "account removed", account.address)

        await self._engine.write(work)
        return await remove_user(self._engine, self._secrets, user_id, self._now)

    async def remove_parked(self, address: Address) -> int:
        """Drop every parked account that once had this address; how many."""

        def work(txn: ReadTxn) -> list[UserId]:
            found = rows.all_accounts(txn, self._secrets)
            return [
                one for one, account in found if account.state is State.PARKED and account.address == address.lookup
            ]

        parked = await self._engine.scan(work)
        for user_id in parked:
            await self._engine.write(lambda txn: self._note(txn, "parked account dropped", address.lookup))
            await remove_user(self._engine, self._secrets, user_id, self._now)
        return len(parked)

    # Aliases.

    async def add_alias(self, alias: Address, target: Address) -> None:
        """Let ``alias`` be another address of ``target``'s account. Raises `AddressTaken`, `AccountMissing`."""
        check_own(alias)
        user_id, account = await self._account(target)

        def work(txn: WriteTxn) -> None:
            if txn.get(Table.ADDR, alias.key) is not None:
                raise AddressTaken
            if txn.get(Table.ADDR, account.address.encode("utf-8")) is None:
                raise AccountMissing
            txn.put(Table.ADDR, alias.key, encode_alias(account.address))
            txn.announce(Change(ChangeKind.ACCOUNT, user_id))
            self._note(txn, "alias added", account.address, alias.lookup)

        await self._engine.write(work)

    async def remove_alias(self, alias: Address) -> None:
        """Take an alias away. Raises `AccountMissing` when there is no such alias."""

        def work(txn: WriteTxn) -> None:
            target = dict(rows.all_aliases(txn)).get(alias.lookup)
            if target is None:
                raise AccountMissing
            txn.delete(Table.ADDR, alias.key)
            self._note(txn, "alias removed", target, alias.lookup)

        await self._engine.write(work)

    # Ways in.

    async def unlock(self, address: Address, secret: bytes) -> Unlocked:
        """The keys behind a password, device password or recovery code. Raises `AccountMissing`, `SecretRefused`.

        Works for a disabled account too: who may change ways in is decided by the secret alone.
        """
        user_id, account = await self._account(address)
        code = parse_device_password(secret)
        candidates = (
            [SINGLE_PASSWORD_ID] if code is None else [CredentialId(code.credential_id or 0), SINGLE_PASSWORD_ID]
        )

        def work(txn: ReadTxn) -> tuple[list[ways_in.Keyed], dict[CredentialId, CredentialRow]]:
            found = [ways_in.read_keyed(txn, self._secrets, user_id, one, kinds=ALL_KINDS) for one in candidates]
            return [one for one in found if one is not None], dict(rows.credentials_of(txn, user_id))

        found, credentials = await self._engine.read(work)
        for keyed in found:
            try:
                root = ways_in.open_root(self._secrets, keyed, ways_in.material_for(keyed.credential.head, secret))
                if root is not None:
                    keys = ways_in.open_keys(keyed, root)
                    return Unlocked(
                        user_id, account.address, account.role, keyed.credential_id, credentials, root, keys
                    )
            except (SealBroken, SecretsMissing) as broken:
                raise Damaged(Table.CRED) from broken
        raise SecretRefused

    async def add_device(
        self,
        unlocked: Unlocked,
        name: str,
        limits: ways_in.Limits | None = None,
        *,
        word: Callable[[CredentialId], Awaitable[Callable[[WriteTxn], None]]] | None = None,
    ) -> tuple[CredentialId, str]:
        """A further device password: its id, and its text to show once. Raises `ValueError` for a name too long.

        Without ``limits`` it opens what the account's role may use. ``word`` prepares what is written with it.
        """
        limits = ways_in.limits_for(unlocked.role) if limits is None else limits
        made = ways_in.new_code(
            self._secrets,
            unlocked.user_id,
            unlocked.root,
            Kind.DEVICE,
            created=self._now(),
            taken=unlocked.credentials.__contains__,
            limits=limits,
        )
        words = f"{devices.id_text(made.credential_id)}, {ways_in.in_words(made.row.head)}"
        row = ways_in.with_label(made.row, made.credential_id, name, unlocked.keys) if name else made.row
        also = None if word is None else await word(made.credential_id)
        await self._put(unlocked, made.credential_id, row, "device made", words, also)
        return made.credential_id, made.code.text

    async def set_password(self, unlocked: Unlocked, password: bytes, *, rounds: int) -> None:
        """A new human password in the place of the old one; devices and mail stay. Raises `ValueError` if empty."""
        old = unlocked.credentials.get(SINGLE_PASSWORD_ID)
        created = max(self._now(), 0 if old is None else old.head.created + 1)
        row = ways_in.new_password(
            self._secrets, unlocked.user_id, password, unlocked.root, rounds=rounds, created=created
        )
        await self._put(unlocked, SINGLE_PASSWORD_ID, row, "password changed", "")

    async def _put(
        self,
        unlocked: Unlocked,
        credential_id: CredentialId,
        row: CredentialRow,
        act: str,
        detail: str,
        also: Callable[[WriteTxn], None] | None = None,
    ) -> None:
        user_id = unlocked.user_id

        def work(txn: WriteTxn) -> None:
            if txn.get(Table.ACCT, user_id) is None:
                raise AccountMissing
            rows.write_credential(txn, user_id, credential_id, row)
            txn.announce(Change(ChangeKind.ACCOUNT, user_id))
            self._note(txn, act, unlocked.address, detail)
            if also is not None:
                also(txn)

        await self._engine.write(work)

    async def revoke(self, address: Address, credential_id: CredentialId) -> bool:
        """Remove a way in; its sessions end within a second. False when there was none. Raises `AccountMissing`."""
        user_id, _ = await self._account(address)

        def work(txn: WriteTxn) -> bool:
            return devices.revoke(txn, self._secrets, user_id, credential_id, now=self._now(), by=self._by)

        return await self._engine.write(work)


def check_own(address: Address) -> None:
    """Whether an account or alias may have this address."""
    if address.is_literal:
        raise AddressError("an address here needs a domain name")
    if address.detail is not None:
        raise AddressError("an address with a tag is delivered to the one without it")
    if len(canonical(address.lookup).local.encode("utf-8")) > MAX_LOCAL_OCTETS:
        raise AddressError("the part before @ is longer than 64 octets")
