"""Fixes the routes of outside recipients at the end of data: a guest's mailbox here, or the wire.

By marks, by ``[invite] when``, and by how the destinations prove themselves. What DNS does not answer defers the
message; nothing falls back from one route to another.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from certmaild.config_values import Invites, When
from certmaild.guests.proof import Proofs
from certmaild.mailbox.addresses import Address
from certmaild.outbound.values import Problem
from certmaild.protocols.smtp.errors import Refusal
from certmaild.protocols.smtp.parameters import RcptArguments
from certmaild.routing import Invite, Plain, Relay, Undecided, VerifiedTls

T = TypeVar("T")
For = tuple[T, RcptArguments]
"""A route, and what RCPT said."""

MARKED_ALONE = (
    "The message is marked to be sealed ({mark}), and this recipient has no mailbox here, is no partner, and this"
    " server has no guests"
)
NO_LITERAL = "A guest needs an address with a domain name: {address} has none, and it does not prove itself"
NOBODY_WROTE = "A report, a read receipt or an automatic answer makes nobody a guest"


@dataclass(slots=True)
class Decided:
    """The routes as they stay."""

    relays: dict[Address, Relay] = field(default_factory=dict)
    invited: list[For[Invite]] = field(default_factory=list)
    refused: list[tuple[Address, RcptArguments, Refusal]] = field(default_factory=list)

    @property
    def others(self) -> set[Address]:
        """Who is not reached by the wire."""
        return {one.address for one, _ in self.invited} | {address for address, _, _ in self.refused}


class Decisions:
    """Decides as ``settings`` say at the time. ``time_s``: how long DNS may take for one message."""

    def __init__(self, settings: Callable[[], Invites], proofs: Proofs, time_s: Callable[[], float]) -> None:
        self._settings = settings
        self._proofs = proofs
        self._time_s = time_s

    async def decide(self, undecided: Sequence[For[Undecided]], mark: str, *, is_written: bool) -> Decided:
        """Fix them. Raises `Refusal` 451 for a deferral.

        ``mark``: which mark the message bears, in words; ``is_written``: it is no program's answer to whatever came.
        """
        decided = Decided()
        open_ones: list[For[Undecided]] = []
        for one, arguments in undecided:
            reason = self._at_once(one, mark)
            if reason is None:
                open_ones.append((one, arguments))
            elif reason:
                self._invite(decided, one, arguments, reason, mark, is_written=is_written)
            else:
                decided.relays[one.address] = one.relay
        if open_ones:
            await self._by_proof(decided, open_ones, is_written=is_written)
        return decided

    def _at_once(self, one: Undecided, mark: str) -> str | None:
        """Why a recipient is a guest; empty: he is reached by the wire; None: his domain has to be asked."""
        settings = self._settings()
        if mark:
            return mark
        if settings.domain is None or settings.when is When.MARKED or isinstance(one.relay, Plain):
            return ""
        return "everybody without a mailbox is a guest here" if settings.when is When.ALWAYS else None

    async def _by_proof(self, decided: Decided, undecided: Sequence[For[Undecided]], *, is_written: bool) -> None:
        found = await self._proofs.of((one.address.domain for one, _ in undecided), self._time_s())
        for one, arguments in undecided:
            proof = found[one.address.domain]
            if isinstance(proof, Problem):
                if not proof.permanent:
                    raise Refusal(451, "4.4.3", f"{proof.words.rstrip('.')}: please try again later")
                decided.refused.append((one.address, arguments, Refusal(550, proof.enhanced, proof.words)))
            elif proof.is_proven:
                decided.relays[one.address] = VerifiedTls(one.address, proof.words)
            else:
                self._invite(decided, one, arguments, proof.words, "", is_written=is_written)

    def _invite(
        self, decided: Decided, one: Undecided, arguments: RcptArguments, reason: str, mark: str, *, is_written: bool
    ) -> None:
        words = ""
        if self._settings().domain is None:
            words = MARKED_ALONE.format(mark=mark)
        elif one.address.is_literal:
            words = NO_LITERAL.format(address=one.address.wire)
        elif not is_written:
            words = NOBODY_WROTE
        if words:
            decided.refused.append((one.address, arguments, Refusal(550, "5.7.1", words)))
        else:
            decided.invited.append((Invite(one.address, reason), arguments))
