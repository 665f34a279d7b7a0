"""All that has to do with guests' codes, put together: letters, first sessions, guesses, expiry, renewal."""

from collections.abc import Callable

from certmaild.config_values import Config
from certmaild.guests.code_command import CodeCommand, InThread
from certmaild.guests.code_expiry import CodeExpiry
from certmaild.guests.first_session import FirstSession
from certmaild.guests.guesses import Guesses
from certmaild.guests.pickup import PickupLetters
from certmaild.guests.renewal import Renewal
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.directory import Directory
from certmaild.mailbox.interfaces import Engine
from certmaild.mailbox.pool import MailboxPool
from certmaild.protocols.transport import Clock
from certmaild.reports.service_mail import ServiceMail


class GuestCodes:
    """Of one process; ``config`` is asked anew each time."""

    def __init__(
        self,
        engine: Engine,
        secrets: ServerSecrets,
        mail: ServiceMail,
        directory: Directory,
        mailboxes: MailboxPool,
        config: Callable[[], Config],
        clock: Clock,
        in_thread: InThread,
    ) -> None:
        command = CodeCommand(lambda: config().invite.code_command, in_thread)
        self.letters = PickupLetters(engine, secrets, mail, command, clock.callLater)
        self.first_session = FirstSession(engine, secrets, mail, mailboxes, clock)
        self.guesses = Guesses(engine, secrets, mail, clock)
        self.expiry = CodeExpiry(engine, secrets, mail, clock)
        self.renewal = Renewal(
            engine,
            secrets,
            mail,
            directory,
            self.letters,
            lambda: config().invite,
            seconds=clock.seconds,
            in_thread=in_thread,
        )
