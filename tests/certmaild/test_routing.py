"""Routes chosen at RCPT: who may send where, and what a partner's record says of the way."""

from datetime import date

import pytest
from support import run

from certmaild.config_values import Invites
from certmaild.keystore.tls_values import Level
from certmaild.keystore.users import PublicKey
from certmaild.mailbox.addresses import Address
from certmaild.mailbox.directory import RecipientFacts
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.layout_accounts import Role, SentCopies, State
from certmaild.mailbox.layout_guests import GuestRow
from certmaild.partners.book import PartnerBook
from certmaild.partners.record import Direction, PartnerRecord
from certmaild.protocols.smtp.grammar import Path
from certmaild.routing import (
    GUEST,
    GUESTS_CLOSED,
    NO_SUCH_MAILBOX,
    ON_TRIAL,
    SERVICES,
    Partner,
    Plain,
    Refuse,
    Route,
    Router,
    Sealed,
    Service,
    Trial,
    Undecided,
    VerifiedTls,
)

NOW = 1_795_000_000.0
"""2026-11-18."""
ANN, GUS, TIM = "ann@example.com", "gus@example.com", "tim.far.example@guest.example.com"
HEARD = ("eve@mx.example", "eve@other.example")
"""Who has written to gus."""
BOOK = PartnerBook(
    [
        PartnerRecord("mx.example", subdomains=True),
        PartnerRecord("fixed.example", subdomains=True, route=("relay.fixed.example:25",), level=Level.PIN),
        PartnerRecord("clear.example", level=Level.MAY),
        PartnerRecord("in.example", direction=Direction.IN),
        PartnerRecord("soon.example", start=date(2026, 12, 1)),
        PartnerRecord("since.example", start=date(2026, 11, 18)),
    ]
)


class Known:
    """A directory of ann, a member, gus, a guest, tim, who is on trial, and dan, who is disabled."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def recipient(self, address: Address) -> RecipientFacts | None:
        self.asked.append(address.lookup)
        role = Role.GUEST if address.lookup in (GUS, TIM, "tim@far.example") else Role.MEMBER
        state = State.DISABLED if address.lookup == "dan@example.com" else State.ACTIVE
        row = None
        if address.lookup in (TIM, "tim@far.example"):
            row = GuestRow(ordinary="tim@far.example", inviter="", inviter_id="", invited_s=1, trial_until_s=9)
        elif address.lookup not in (ANN, GUS, "dan@example.com"):
            return None
        key = PublicKey(b"", 1, b"")
        return RecipientFacts(UserId(bytes(16)), address.lookup, state, role, SentCopies.CLIENT, None, None, key, row)

    async def group(self, address: Address) -> None:
        """There is none."""

    async def has_heard(self, user_id: UserId, address: Address) -> bool:
        self.asked.append(f"heard {address.lookup}")
        return address.lookup in HEARD

    async def first_member(self) -> str:
        return ANN


def router(book: PartnerBook | None = BOOK, *, trial_days: int = 0) -> Router:
    invites = Invites("guest.example.com", trial_days=trial_days)
    return Router(Known(), ("example.com",), partners=book, seconds=lambda: NOW, invites=invites)  # type: ignore[arg-type]


def route(
    to: str,
    sender: str | None = ANN,
    *,
    require_tls: bool = False,
    book: PartnerBook | None = BOOK,
    trial_days: int = 0,
    is_partner: bool = False,
) -> Route:
    local, _, domain = to.rpartition("@")
    asked = router(book, trial_days=trial_days)
    return run(asked.route(Path(local, domain), sender=sender, require_tls=require_tls, is_partner=is_partner))


def refusal(route: Route) -> str:
    assert isinstance(route, Refuse)
    return str(route.refusal)


@pytest.mark.parametrize(
    ("to", "kind", "domain", "reason"),
    [
        ("bob@other.example", VerifiedTls, "", "other.example is no partner: the default, level verify"),
        ("bob@mx.example", Partner, "mx.example", "partner mx.example, level secure"),
        ("bob@a.b.mx.example", Partner, "a.b.mx.example", "partner mx.example, level secure"),
        ("bob@fixed.example", Partner, "fixed.example", "partner fixed.example, level pin"),
        ("bob@sub.fixed.example", Partner, "fixed.example", "partner fixed.example, level pin"),
        ("bob@Clear.Example", Plain, "clear.example", "partner clear.example, whose record allows clear text"),
        ("bob@sub.clear.example", VerifiedTls, "", "sub.clear.example is no partner"),
        ("bob@in.example", VerifiedTls, "", "in.example is no partner"),
        ("bob@soon.example", VerifiedTls, "", "partner soon.example counts from 2026-12-01; until then the default"),
        ("bob@since.example", Partner, "since.example", "partner since.example, level secure"),
        ("bob@[192.0.2.1]", VerifiedTls, "", "[192.0.2.1] is no partner"),
        ("bob@bücher.example", VerifiedTls, "", "xn--bcher-kva.example is no partner"),
        ("jörg@other.example", VerifiedTls, "", "other.example is no partner"),
    ],
)
def test_a_member_writes_to_the_world(to: str, kind: type, domain: str, reason: str) -> None:
    found = route(to)
    if isinstance(found, Undecided):
        found = found.relay
        assert kind is not Partner
    assert isinstance(found, Partner | Plain | VerifiedTls)
    assert type(found) is kind
    assert found.reason.startswith(reason)
    if not isinstance(found, VerifiedTls):
        assert found.domain == domain


def test_what_demands_tls_never_goes_where_clear_text_is_allowed() -> None:
    assert refusal(route("bob@clear.example", require_tls=True)).startswith("550 5.7.30")
    assert isinstance(route("bob@mx.example", require_tls=True), Partner)
    assert isinstance(route("bob@other.example", require_tls=True), Undecided)


def test_strangers_and_guests_reach_hosted_domains_only() -> None:
    for to in ("bob@other.example", "bob@mx.example", "bob@clear.example", "bob@[192.0.2.1]"):
        assert refusal(route(to, None)) == "550 5.7.1 Relaying denied"
        assert refusal(route(to, GUS)).startswith("550 5.7.1 Guests of this server may write to")
    assert isinstance(route(ANN, None), Sealed)
    assert isinstance(route(ANN, GUS), Sealed)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_service_addresses_are_for_who_is_logged_in(name: str) -> None:
    for domain in ("example.com", "guest.example.com"):
        for sender in (ANN, GUS):
            found = route(f"{name.title()}+x@{domain}", sender)
            assert isinstance(found, Service)
            assert (found.name, found.tag) == (name, "x")
        assert refusal(route(f"{name}@{domain}", None)).startswith("550 5.7.1")
    assert isinstance(route(f"{name}@other.example"), Undecided)


def test_try_is_an_unknown_address_unless_there_are_trials() -> None:
    for sender in (None, ANN, GUS):
        assert refusal(route("try@example.com", sender)) == "550 5.1.1 No such mailbox here"
    for sender in (ANN, GUS, TIM):
        assert isinstance(route("try@example.com", sender, trial_days=30), Service)
    assert isinstance(route("Try@example.com", None, trial_days=30), Trial)
    # The guests' domain is as silent as ever.
    assert refusal(route("try@guest.example.com", None, trial_days=30)) == refusal(route("x@guest.example.com", None))


@pytest.mark.parametrize("trial_days", [0, 30])
def test_who_is_on_trial_writes_to_the_server_alone(trial_days: int) -> None:
    to_try = [] if not trial_days else ["try@example.com"]
    for to in ("devices@example.com", "help@guest.example.com", *to_try):
        assert isinstance(route(to, TIM, trial_days=trial_days), Service)
    assert isinstance(route("postmaster@example.com", TIM, trial_days=trial_days), Sealed)
    assert route("postmaster@other.example", TIM, trial_days=trial_days) is ON_TRIAL
    for to in (ANN, "nobody@example.com", "x@guest.example.com", TIM, "bob@other.example", "bob@mx.example", HEARD[0]):
        assert route(to, TIM, trial_days=trial_days) is ON_TRIAL
    # Whoever is gone while he is logged in writes to nobody either.
    assert route(ANN, "gone@guest.example.com", trial_days=trial_days) is ON_TRIAL


def test_nobody_writes_to_who_is_on_trial() -> None:
    assert refusal(route(TIM)) == refusal(route("nobody@guest.example.com")) == "550 5.1.1 No such mailbox here"
    assert refusal(route(TIM, None)).startswith("550 5.7.1 Mail to this domain is taken from")
    assert refusal(route(TIM, None, is_partner=True)) == "550 5.1.1 No such mailbox here"
    # Members reach him as they would without it.
    assert isinstance(route("tim@far.example"), Undecided)


def test_a_mailbox_of_a_service_s_name_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certmaild.routing.SERVICES", frozenset(("ann", "help")))
    assert isinstance(route(ANN), Sealed)
    assert isinstance(route(ANN, None), Sealed)
    assert isinstance(route("help@example.com"), Service)


def test_without_a_queue_nothing_leaves_the_house() -> None:
    assert refusal(route("bob@other.example", book=None)).startswith("550 5.7.1 This server does not send")


def test_the_servers_own_mail_finds_its_mailbox() -> None:
    async def owner(path: Path) -> str | None:
        found = await router().mailbox(path)
        return None if found is None else found.address

    assert run(owner(Path("postmaster", ""))) == ANN
    assert run(owner(Path("abuse", "example.com"))) == ANN
    assert run(owner(Path("gus", "example.com"))) == GUS
    for path in (Path("dan", "example.com"), Path("nobody", "example.com"), Path("bob", "other.example")):
        assert run(owner(path)) is None
    assert run(owner(Path("bad..", "example.com"))) is None


def of_guests(to: str, sender: str | None = ANN, **how: bool) -> Route:
    """A route where BOB has a guest's mailbox."""
    local, _, domain = to.rpartition("@")
    return run(router().route(Path(local, domain), sender=sender, **how))


def test_a_guest_writes_back_to_partners_and_to_nobody_else() -> None:
    assert isinstance(of_guests("eve@mx.example", GUS), Partner)
    for to in ("eve@other.example", "bob@mx.example", "bob@guest.example.com", "bob@other.example"):
        assert of_guests(to, GUS) == GUEST, to


def test_of_an_address_that_has_not_written_to_a_guest_nothing_is_looked_at() -> None:
    directory = Known()
    own = Router(
        directory,  # type: ignore[arg-type]
        ("example.com",),
        partners=BOOK,
        seconds=lambda: NOW,
        invites=Invites("guest.example.com"),
    )
    for to in ("bob.far.example@guest.example.com", "bob@far.example"):
        directory.asked.clear()
        local, _, domain = to.rpartition("@")
        assert run(own.route(Path(local, domain), sender=GUS)) == GUEST
        assert directory.asked == [GUS, f"heard {to}"]
    for to in ("bob.far.example@guest.example.com", "bob@far.example"):
        directory.asked.clear()
        local, _, domain = to.rpartition("@")
        assert isinstance(run(own.route(Path(local, domain), sender=None)), Refuse)
        assert directory.asked == []


def test_only_proven_partners_come_to_the_guests_domain_from_outside() -> None:
    assert of_guests("bob@guest.example.com", None) == GUESTS_CLOSED
    assert of_guests("bob@guest.example.com", None, is_partner=True) == NO_SUCH_MAILBOX
    assert isinstance(of_guests("postmaster@guest.example.com", None), Sealed)
