"""Who comes in: every log-in of this process, with throttle, admission to hashing, cache and session counts.

A device password is looked up by its own id and costs no hashing. Everything else takes the same road whether the name
exists or not: wait as the throttle says, ask the cache, hash, compare; and has one answer when it fails. What has the
form of a pickup code is compared as one first, and so for every name.
"""

import ipaddress
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from certmaild.kdf_pool import KdfPool
from certmaild.keystore.codes import parse_device_password, parse_pickup_code
from certmaild.keystore.errors import PublicKeySwapped
from certmaild.keystore.secret import Secret
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.keystore.users import KeyRing
from certmaild.login_cache import HeldKeys, LoginCache, SharedLogins, digest_of
from certmaild.login_names import addresses_of, find_only
from certmaild.mailbox import account_rows, ways_in
from certmaild.mailbox.account_rows import Target
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.errors import MailboxError
from certmaild.mailbox.identifiers import CredentialId, UserId
from certmaild.mailbox.interfaces import Engine
from certmaild.mailbox.layout_accounts import (
    PICKUP_ID,
    SINGLE_PASSWORD_ID,
    Account,
    CredentialHead,
    Kind,
    Role,
    Scope,
    State,
)
from certmaild.mailbox.narrow import narrowed
from certmaild.mailbox.opened import OpenMailbox
from certmaild.mailbox.pool import MailboxPool
from certmaild.mailbox.ways_in import Keyed
from certmaild.protocols.interfaces import (
    ClientWatch,
    Login,
    LogInRefused,
    LogInUnavailable,
    Service,
    TooManySessions,
)
from certmaild.protocols.limits import Limits
from certmaild.protocols.transport import Clock
from certmaild.tally import LocalTally, Tally
from certmaild.throttle import Attempt, Throttle
from certmaild.upkeep import Upkeep

T = TypeVar("T")
log = Logger()

SCOPES = {Service.IMAP: Scope.IMAP_READ, Service.POP3: Scope.POP, Service.SUBMISSION: Scope.SUBMIT}
WAITING_PER_NETWORK = 16
WAITING = 2048
"""Attempts that the throttle holds back at once; above it the answer is "try again later"."""
PUT_OFF_S = 5.0
"""How long "try again later" takes, so that 100 connections of one address try 20 times a second, not thousands."""
SWEEP_S = 60
SESSIONS = b"sessions"
"""Name of a count: all log-ins."""
ABSORB_S = 2.0
CLOSING = "The server is about to stop, try again later"
Guessed = Callable[[UserId], None]
"""Told of each wrong code that was tried at somebody who has one."""
_BY_ID = frozenset({Kind.DEVICE, Kind.RECOVERY})
_PASSWORD = frozenset({Kind.PASSWORD})
_PICKUP = frozenset({Kind.PICKUP})


@dataclass(frozen=True, slots=True)
class Session(Login):
    """A log-in as this gatekeeper keeps it."""

    created: int = 0
    """When the credential was made: a password changed since has a later one."""
    service: Service = Service.IMAP
    expires: int = 0
    """When the credential does, in seconds since 1970; 0: never."""


@dataclass(frozen=True, slots=True)
class Proven:
    """A right secret, its user's keys held once."""

    user_id: UserId
    credential_id: CredentialId
    account: Account
    head: CredentialHead
    keys: KeyRing


class InProcessGatekeeper:
    """A `Gatekeeper`. ``slow`` hashes human passwords, ``quick`` asks the cache; ``rounds`` is what new hashes take.

    ``domains`` are all that have accounts: a name without a domain is whoever alone has it in any of them.
    """

    def __init__(
        self,
        engine: Engine,
        secrets: ServerSecrets,
        mailboxes: MailboxPool,
        clock: Clock,
        slow: KdfPool,
        quick: KdfPool,
        *,
        limits: Limits,
        domains: tuple[str, ...],
        rounds: int,
        caching: bool = True,
        tally: Tally | None = None,
        throttle: Throttle | None = None,
        shared_logins: SharedLogins | None = None,
        watch: ClientWatch | None = None,
        guessed: Guessed = lambda user_id: None,
    ) -> None:
        self.guessed = guessed
        self._watch = watch
        self._engine = engine
        self._secrets = secrets
        self._mailboxes = mailboxes
        self._clock = clock
        self._slow = slow
        self._quick = quick
        self._limits = limits
        self._domains = domains
        self._rounds = rounds
        self._held = HeldKeys()
        self._tally = LocalTally() if tally is None else tally
        self._shared_logins = shared_logins
        self._cache = self._new_cache() if caching else None
        self._throttle = Throttle(clock.seconds) if throttle is None else throttle
        self._waiting: Counter[str] = Counter()
        self._pauses: set[Deferred[None]] = set()
        self._is_closing = False
        self._sessions: dict[int, Session] = {}
        self._upkeep = Upkeep(engine, secrets, slow, clock.seconds, rounds)
        self._sweeping = LoopingCall(self._sweep)
        self._sweeping.clock = clock  # type: ignore[assignment]  # a Protocol stands for the zope interface

    def take_over(self, limits: Limits, domains: tuple[str, ...], rounds: int, *, caching: bool) -> None:
        """Other settings, for log-ins from now on."""
        self._limits, self._domains, self._rounds = limits, domains, rounds
        self._upkeep.rounds = rounds
        if not caching and self._cache is not None:
            self._cache.clear()
            self._cache = None
        elif caching and self._cache is None:
            self._cache = self._new_cache()

    def _new_cache(self) -> LoginCache:
        return LoginCache(self._held, self._clock.seconds, shared=self._shared_logins)

    def start(self) -> None:
        """Begin to forget what is too old."""
        self._sweeping.start(SWEEP_S, now=False)

    def stop(self) -> None:
        """Forget every cached password; sessions keep their keys until they log out."""
        if self._sweeping.running:
            self._sweeping.stop()
        if self._cache is not None:
            self._cache.clear()

    def _sweep(self) -> None:
        if self._cache is not None:
            self._cache.sweep()
        self._upkeep.sweep()
        now = self._clock.seconds()
        over = {one.user_id for one in self._sessions.values() if 0 < one.expires <= now}
        # Those sessions ask `is_valid` then, and end.
        self._engine.hub.deliver([Change(ChangeKind.ACCOUNT, user_id) for user_id in over])

    # Log-in.

    async def log_in(self, username: bytes, password: bytes, *, service: Service, peer: str) -> Login:
        """See `Gatekeeper.log_in`."""
        try:
            proven = await self._prove(username, password, service, peer)
        except LogInRefused:
            raise
        except LogInUnavailable as put_off:
            if put_off.retry_s is not None:
                await self._pause(PUT_OFF_S)
            raise
        except PublicKeySwapped:
            log.critical("ALARM: the public key of the user logging in from {peer} is not his own", peer=peer)
            raise LogInUnavailable("Temporary failure, try again later") from None
        except Exception:
            log.failure("log-in from {peer} failed", peer=peer)
            raise LogInUnavailable("Temporary failure, try again later") from None
        session = self._admit(proven, service)
        if self._watch is not None:
            try:
                await self._watch.entered(session, service, peer)
            except BaseException:
                self.log_out(session)
                raise
        return session

    def _admit(self, proven: Proven, service: Service) -> Session:
        of_credential, of_mailbox = _names(proven.user_id, proven.credential_id)
        full = self._tally.count_in(
            (of_credential, self._limits.sessions_per_credential),
            (of_mailbox, self._limits.sessions_per_mailbox),
            (SESSIONS, None),
        )
        if full is not None:
            self._held.release(proven.user_id)
            raise TooManySessions
        session = Session(
            proven.user_id,
            proven.account.address,
            proven.credential_id,
            Scope.IMAP_WRITE not in proven.head.scopes and proven.head.kind is not Kind.RECOVERY,
            proven.keys,
            proven.head.kind,
            proven.head.created,
            service,
            proven.head.expires,
        )
        self._sessions[id(session)] = session
        self._upkeep.note_use(proven.user_id, proven.credential_id)
        return session

    async def _prove(self, username: bytes, password: bytes, service: Service, peer: str) -> Proven:
        meant = addresses_of(username, self._domains)
        target = await self._engine.read(lambda txn: find_only(txn, meant)) if meant else None
        proven = None if target is None else await self._by_code(target, password, service, peer)
        if proven is not None:
            return proven
        if target is not None:
            who = bytes(target.user_id)
        else:
            who = meant[0].base.key if meant else username[:512]
        attempt = self._throttle.attempt(who, peer)
        try:
            proven = await self._by_pickup(target, who, password, service, attempt, peer)
            if proven is None:
                await self._wait(attempt, attempt.delay_s)
                proven = await self._by_password(target, who, password, service, peer)
        except BaseException:
            attempt.excused()
            raise
        if proven is None:
            log.info("log-in refused for a name or password from {peer} ({service})", peer=peer, service=service.value)
            raise LogInRefused
        attempt.succeeded()
        return proven

    async def _wait(self, attempt: Attempt, delay_s: float) -> None:
        if not delay_s:
            return
        if self._waiting[attempt.network] >= WAITING_PER_NETWORK or self._waiting.total() >= WAITING:
            raise LogInUnavailable("Too many failed log-ins, try again later", int(delay_s))
        self._waiting[attempt.network] += 1
        try:
            await self._pause(delay_s)
        finally:
            self._waiting[attempt.network] -= 1
            if not self._waiting[attempt.network]:
                del self._waiting[attempt.network]

    async def _pause(self, seconds: float) -> None:
        if self._is_closing:
            raise LogInUnavailable(CLOSING)
        pause: Deferred[None] = Deferred()
        timer = self._clock.callLater(seconds, pause.callback, None)
        self._pauses.add(pause)
        try:
            await pause
        finally:
            self._pauses.discard(pause)
            if timer.active():
                timer.cancel()

    def let_nobody_wait(self) -> None:
        """The server stops: who waits is told to try again later, now. Else a flood of guesses would hold it up."""
        self._is_closing = True
        for pause in tuple(self._pauses):
            pause.errback(LogInUnavailable(CLOSING))

    async def _by_code(self, target: Target, password: bytes, service: Service, peer: str) -> Proven | None:
        """A device password or recovery code: one record is read, nothing is stretched."""
        code = parse_device_password(password)
        if code is None or code.credential_id is None:
            return None
        keyed = await self._read(target, CredentialId(code.credential_id), _BY_ID)
        if keyed is None:
            return None
        return self._opened(keyed, code.material, service, peer)

    async def _by_pickup(
        self, target: Target | None, who: bytes, password: bytes, service: Service, attempt: Attempt, peer: str
    ) -> Proven | None:
        """A pickup code, held back only by what this address has tried; a name that has none takes as long.

        What it waited for is taken off the attempt's delay.
        """
        code = parse_pickup_code(password)
        if code is None:
            return None
        await self._wait(attempt, attempt.own_delay_s)
        attempt.delay_s -= attempt.own_delay_s
        keyed = None if target is None else await self._read(target, PICKUP_ID, _PICKUP)
        salt = self._secrets.unknown_salt(b"pickup" + who)
        opened = await self._slow.run(
            peer, lambda: ways_in.stretch_and_open(self._secrets, keyed, code.material, salt, ways_in.PICKUP_ROUNDS)
        )
        attempt.is_guess = opened is None
        if keyed is None:
            return None
        if opened is None:
            self.guessed(keyed.user_id)
            return None
        opened.root.wipe()
        return await self._by_material(target, opened.material, service, peer)

    async def _by_material(self, target: Target | None, material: bytes, service: Service, peer: str) -> Proven | None:
        """By what a right code was stretched to, read anew: it may be sealed again while another session begins."""
        keyed = None if target is None else await self._read(target, PICKUP_ID, _PICKUP)
        root = None if keyed is None else ways_in.open_root(self._secrets, keyed, material)
        if keyed is None or root is None:
            return None
        return self._enter(keyed, root, service, peer, lambda: self._upkeep.renew_pickup(keyed, material, root))

    async def _by_password(
        self, target: Target | None, who: bytes, password: bytes, service: Service, peer: str
    ) -> Proven | None:
        """A human password: from the cache, else stretched, a name that does not exist as well."""
        cache, cache_key = self._cache, b""
        if cache is not None:
            cache_key = await self._quick.run(peer, lambda: cache.key_for(who, password))
            if (found := await self._from_cache(cache_key, service, peer)) is not None:
                return found
        keyed = None if target is None else await self._read(target, SINGLE_PASSWORD_ID, _PASSWORD)
        if keyed is not None and not _may(keyed, service, peer, self._clock.seconds()):
            keyed = None
        shared = None if keyed is None or cache is None else cache.shared(cache_key)
        if keyed is not None and shared is not None:
            root = ways_in.open_root(self._secrets, keyed, shared.material)
            if root is not None:
                return self._enter(keyed, root, service, peer, lambda: self._remember(keyed, cache_key, shared.first))
        most = max(self._rounds, await self._engine.read(account_rows.read_most_rounds))
        salt = self._secrets.unknown_salt(who)
        opened = await self._slow.run(
            peer, lambda: ways_in.stretch_and_open(self._secrets, keyed, password, salt, most)
        )
        if keyed is None:
            return None
        if await self._stamp(keyed.user_id, keyed.credential_id) != keyed.stamp:
            if opened is not None:
                opened.root.wipe()
            raise LogInUnavailable("The account changed just now, try again")
        if opened is None:
            return None

        def proven() -> None:
            self._remember(keyed, cache_key, None)
            if cache is not None:
                cache.share(cache_key, opened.material)
            self._upkeep.renew_password(keyed, password, opened.root, peer)

        return self._enter(keyed, opened.root, service, peer, proven)

    def _enter(
        self, keyed: Keyed, root: Secret, service: Service, peer: str, proven: Callable[[], None]
    ) -> Proven | None:
        """Hold the keys behind a root key, which is wiped; ``proven`` is called when the user may come in."""
        try:
            entered = self._hold(keyed, root, service, peer)
            if entered is not None:
                proven()
            return entered
        finally:
            root.wipe()

    def _remember(self, keyed: Keyed, cache_key: bytes, first: float | None) -> None:
        if self._cache is not None:
            self._cache.put(cache_key, keyed.user_id, keyed.credential_id, keyed.stamp, first=first)

    async def _from_cache(self, key: bytes, service: Service, peer: str) -> Proven | None:
        entry = None if self._cache is None else self._cache.get(key)
        if self._cache is None or entry is None:
            return None
        keyed = await self._read(Target(entry.user_id, ""), entry.credential_id, _PASSWORD)
        if keyed is None or digest_of(keyed.stamp) != entry.stamp:
            self._cache.drop(key)
            return None
        if not _may(keyed, service, peer, self._clock.seconds()):
            return None
        keys = self._held.take(entry.user_id)
        if keys is None:
            return None
        return Proven(entry.user_id, entry.credential_id, keyed.account, keyed.credential.head, keys)

    def _read(self, target: Target, credential_id: CredentialId, kinds: frozenset[Kind]) -> Awaitable[Keyed | None]:
        return self._engine.read(
            lambda txn: ways_in.read_keyed(txn, self._secrets, target.user_id, credential_id, kinds=kinds)
        )

    def _stamp(self, user_id: UserId, credential_id: CredentialId) -> Awaitable[bytes | None]:
        return self._engine.read(lambda txn: ways_in.read_stamp(txn, user_id, credential_id))

    def _opened(self, keyed: Keyed, material: bytes, service: Service, peer: str) -> Proven | None:
        root = ways_in.open_root(self._secrets, keyed, material)
        if root is None:
            return None
        try:
            proven = self._hold(keyed, root, service, peer)
            if proven is not None:
                self._upkeep.renew_code(keyed, material, root)
            return proven
        finally:
            root.wipe()

    def _hold(self, keyed: Keyed, root: Secret, service: Service, peer: str) -> Proven | None:
        if not _may(keyed, service, peer, self._clock.seconds()):
            return None
        keys = self._held.hold(keyed.user_id, ways_in.open_keys(keyed, root))
        return Proven(keyed.user_id, keyed.credential_id, keyed.account, keyed.credential.head, keys)

    # After it.

    async def is_valid(self, login: Login) -> bool:
        """See `Gatekeeper.is_valid`. A password changed since, by whoever, ends its sessions as a revoked one does."""
        secrets, user_id, credential_id = self._secrets, login.user_id, login.credential_id
        account, row = await self._engine.read(
            lambda txn: (
                account_rows.read_account(txn, secrets, user_id),
                account_rows.read_credential(txn, user_id, credential_id),
            )
        )
        if account is None or row is None or account.state is not State.ACTIVE:
            return False
        if row.head.expires and row.head.expires <= self._clock.seconds():
            return False
        if not isinstance(login, Session):
            return True
        return login.created == row.head.created and _is_for(account, login.service)

    def log_out(self, login: Login) -> None:
        """See `Gatekeeper.log_out`; a second call does nothing."""
        if self._sessions.pop(id(login), None) is None:
            return
        self._tally.count_out(*_names(login.user_id, login.credential_id), SESSIONS)
        self._held.release(login.user_id)

    async def open_mailbox(self, login: Login) -> OpenMailbox:
        """See `Gatekeeper.open_mailbox`."""
        whole = self._mailboxes.open(login.user_id, login.address, login.keys)
        if login.kind is Kind.RECOVERY:
            # The folder that is all there is to see may be made only now, by the message that shows a password.
            with suppress(MailboxError):
                await whole.absorb(at_most_s=ABSORB_S)
        return narrowed(whole, login.kind)

    @property
    def sessions(self) -> int:
        """Logged in now."""
        return len(self._sessions)


def _names(user_id: UserId, credential_id: CredentialId) -> tuple[bytes, bytes]:
    """Names of counts: a credential's sessions and a mailbox's."""
    return b"credential " + user_id + credential_id.to_bytes(4, "big"), b"mailbox " + user_id


def _may(keyed: Keyed, service: Service, peer: str, now: float) -> bool:
    """Whether an active account's credential is for this service, not expired, and used from where it may be."""
    head = keyed.credential.head
    if keyed.account.state is not State.ACTIVE or not _opens(head, service):
        return False
    if not _is_for(keyed.account, service):
        return False
    if head.expires and head.expires <= now:
        return False
    return not head.networks or _is_within(peer, head.networks)


def _is_for(account: Account, service: Service) -> bool:
    """Whether such an account may use the service at all: a program only submits, whatever its passwords open."""
    return account.role is not Role.APP or service is Service.SUBMISSION


def _opens(head: CredentialHead, service: Service) -> bool:
    """A recovery code opens what shows the folder Devices (`certmaild.mailbox.narrow`); all others by their scopes."""
    if head.kind is Kind.RECOVERY:
        return Scope.MANAGE in head.scopes and service is not Service.SUBMISSION
    return SCOPES[service] in head.scopes


def _is_within(peer: str, networks: bytes) -> bool:
    try:
        address = ipaddress.ip_address(peer)
        return any(address in ipaddress.ip_network(one) for one in networks.decode("ascii").split("\n"))
    except ValueError:
        return False
