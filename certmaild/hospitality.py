"""What guests, service addresses and people's programs need, put together for a serving process."""

from collections.abc import Callable, Sequence
from typing import Any

from certmaild.client_watches import ClientWatches
from certmaild.config_values import Config
from certmaild.correspondence import Correspondence
from certmaild.filing import InThread
from certmaild.guests.codes import GuestCodes
from certmaild.guests.decision import Decisions
from certmaild.guests.invitations import Invitations
from certmaild.guests.notice_round import NoticeRound
from certmaild.guests.proof import Proofs
from certmaild.guests.trial import Trials
from certmaild.guests.trial_end import TrialEnds
from certmaild.guests.unused import UnusedGuests
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.interfaces import Engine
from certmaild.mailbox.pool import MailboxPool
from certmaild.outbound.leader import Worker
from certmaild.outbound.planner import DnsPlanner
from certmaild.partners.book import PartnerBook
from certmaild.relays.watch import RelayWatch
from certmaild.routing import TRY
from certmaild.services.clerks import HelpClerk, SettingsClerk
from certmaild.services.desk import Desk
from certmaild.services.devices import DeviceClerk
from certmaild.services.expiry import DeviceExpiry
from certmaild.services.interfaces import Clerk
from certmaild.services.invite_clerk import InviteClerk
from certmaild.services.status import StatusClerk
from certmaild.services.steward import Steward
from certmaild.services.trial_clerk import TrialClerk


class Hospitality:
    """``config`` gives the configuration of the moment, ``planner`` whoever knows how destinations prove themselves."""

    def __init__(
        self,
        engine: Engine,
        secrets: ServerSecrets,
        correspondence: Correspondence,
        mailboxes: MailboxPool,
        partners: PartnerBook,
        config: Callable[[], Config],
        reactor: Any,
        *,
        planner: Callable[[], DnsPlanner],
        in_thread: InThread,
    ) -> None:
        self._engine = engine
        self._secrets = secrets
        self._correspondence = correspondence
        self._partners = partners
        self._config = config
        self._reactor = reactor
        self._in_thread = in_thread
        mail = correspondence.mail
        self.proofs = Proofs(planner, reactor)
        self.codes = GuestCodes(engine, secrets, mail, correspondence.directory, mailboxes, config, reactor, in_thread)
        self.relays = RelayWatch(engine, secrets, mail, config().relays, seconds=reactor.seconds)
        self.steward = Steward(engine, secrets, mail, reactor)
        mailboxes.stirred = self.steward.stirred
        self.desk = self._make_desk()

    def watch(self, watches: ClientWatches) -> None:
        """Hear of log-ins and programs. Whom a relay's policy sends away has not come in: no code is used up by it."""
        watches.watches += [self.relays, self.codes.first_session, self.steward]

    def _make_desk(self) -> Desk:
        engine, secrets, mail, seconds = self._engine, self._secrets, self._correspondence.mail, self._reactor.seconds
        clerks: dict[str, Clerk] = {
            "devices": DeviceClerk(engine, secrets, mail, self._config, self._in_thread, seconds),
            "help": HelpClerk(),
            "status": StatusClerk(engine, secrets, self._correspondence.spool, seconds),
            "settings": SettingsClerk(engine, secrets),
            "invite": InviteClerk(self.codes.renewal),
            TRY: TrialClerk(engine, secrets, seconds),
        }
        return Desk(
            engine,
            secrets,
            mail,
            self._in_thread,
            clerks,
            self.steward.stirred,
            limits=lambda: self._config().limits,
            seconds=seconds,
        )

    def make_decisions(self) -> Decisions:
        """What fixes routes at the end of data."""
        return Decisions(lambda: self._config().invite, self.proofs, lambda: self._config().limits.proof_time)

    def make_invitations(self) -> Invitations:
        """What makes guests."""
        return Invitations(
            self._engine,
            self._secrets,
            lambda: self._config().invite,
            self.codes.letters,
            self._correspondence.notices,
            seconds=self._reactor.seconds,
            in_thread=self._in_thread,
        )

    def make_trials(self) -> Trials:
        """What answers at ``try@``."""
        return Trials(
            self._engine,
            self._secrets,
            self._correspondence.mail,
            self._correspondence.directory,
            self._partners,
            self._config,
            self._reactor,
            self._in_thread,
        )

    def rounds(self) -> Sequence[Worker]:
        """What is done by whichever process works the queue."""
        engine, secrets, mail, config, clock = (
            self._engine,
            self._secrets,
            self._correspondence.mail,
            self._config,
            self._reactor,
        )
        return (
            NoticeRound(engine, secrets, mail, config, clock),
            self.codes.expiry,
            UnusedGuests(engine, secrets, mail, lambda: config().invite, clock),
            TrialEnds(engine, secrets, mail, clock),
            DeviceExpiry(engine, secrets, mail, lambda: config().devices, clock),
        )

    def take_over(self, config: Config) -> None:
        """Go by this configuration from now on."""
        self.relays.take_over(config.relays)
        self.proofs.forget()

    def start(self) -> None:
        """Begin to write down what was guessed at."""
        self.codes.guesses.start()

    def stop(self) -> None:
        """Nothing further."""
        self.steward.stop()
        self.codes.guesses.stop()
