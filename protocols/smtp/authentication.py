"""Who the client of one connection has proven to be (RFC 4954), and what he holds until he is gone."""

from collections.abc import Callable

from certmaild.mailbox.changes import Change, ChangeHub, ChangeKind, Watch
from certmaild.protocols.interfaces import (
    Admission,
    Gatekeeper,
    Login,
    LogInForbidden,
    LogInRefused,
    LogInUnavailable,
    Service,
    TooManySessions,
)
from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.grammar import PlainCredentials


class Authentication:
    """At most one log-in, and the connection's place in the counts of its listener (None: it got none).

    ``changed`` is called after each change of the account since; `is_revoked` then says whether the session has to end.
    """

    def __init__(
        self,
        gatekeeper: Gatekeeper | None,
        hub: ChangeHub | None,
        peer: str,
        admission: Admission | None,
        changed: Callable[[], None],
    ) -> None:
        self.login: Login | None = None
        self._gatekeeper = gatekeeper
        self._hub = hub
        self._peer = peer
        self._admission = admission
        self._changed = changed
        self._watch: Watch | None = None
        self._is_proving = False
        self._is_gone = False

    async def log_in(self, credentials: PlainCredentials) -> None:
        """Prove the client to be a user, unless he is gone by then. Raises `Refusal`."""
        gatekeeper = self._gatekeeper
        if gatekeeper is None:
            raise Refusal(454, "4.7.0", "Authentication not available")
        self._is_proving = True
        try:
            login = await gatekeeper.log_in(
                credentials.username, credentials.password, service=Service.SUBMISSION, peer=self._peer
            )
        except LogInRefused:
            raise Refusal(535, "5.7.8", "Authentication failed") from None
        except LogInForbidden as error:
            raise Refusal(535, "5.7.1", error.public_text) from None
        except LogInUnavailable as error:
            raise Refusal(454, "4.7.0", error.public_text) from None
        except TooManySessions:
            raise Refusal(454, "4.7.0", "Too many sessions") from None
        finally:
            self._is_proving = False
            if self._is_gone:
                # Not before: who does not wait for the answer has his connections counted all the same.
                self._leave()
        if self._is_gone:
            gatekeeper.log_out(login)
            return
        self.login = login
        if self._admission is not None:
            self._admission.authenticated()
        if self._hub is not None:
            self._watch = self._hub.watch(login.user_id, self._on_change)

    def _on_change(self, change: Change) -> None:
        if change.kind is ChangeKind.ACCOUNT:
            self._changed()

    async def is_revoked(self) -> bool:
        """Whether the credential no longer holds; False for who did not log in, and once he is gone."""
        if self._gatekeeper is None or self.login is None:
            return False
        return not (await self._gatekeeper.is_valid(self.login) or self._is_gone)

    def end(self) -> None:
        """The connection is gone: let go of the keys and of its places in the counts."""
        self._is_gone = True
        if self._watch is not None:
            self._watch.stop()
        if self.login is not None and self._gatekeeper is not None:
            self._gatekeeper.log_out(self.login)
        if not self._is_proving:
            self._leave()

    def _leave(self) -> None:
        if self._admission is not None:
            self._admission.leave()
