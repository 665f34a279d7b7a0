"""The daily look at partners: what the postmaster is told, when, and that it is told once."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import tls_support
from command_support import Line, make_line
from support import run
from twisted.internet.task import Clock

from certmaild import config as configuration
from certmaild.config_values import Config
from certmaild.keystore.server_secrets import FILES, ServerSecrets
from certmaild.keystore.tls_values import ClientFiles, Pem, ShownTls
from certmaild.mailbox.engine_memory import MemoryEngine
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_partners import AFTER_WATCHED, WATCHED
from certmaild.outbound.values import Problem
from certmaild.partners.book import PartnerBook
from certmaild.partners.record import Direction, PartnerRecord
from certmaild.peering.findings import DAY_S
from certmaild.peering.probe import Asked, Probe, Verdict
from certmaild.peering.watch import LOOK_S, PartnerWatch
from certmaild.protocols.smtp.grammar import Path as MailPath
from certmaild.reports.names import ServerName
from certmaild.reports.service_mail import NotWritable

BEGIN = datetime(2027, 1, 1, 12, tzinfo=UTC)
SECRETS = ServerSecrets({name: bytes([number]) * 32 for number, name in enumerate(FILES)})


class Letters:
    """Stands for `ServiceMail`: keeps what is filed."""

    def __init__(self) -> None:
        self.filed: list[tuple[str, EmailMessage]] = []
        self.refuses = False
        self.name = ServerName("mail.example.com", "example.com")

    def octets(self, letter: EmailMessage, to: MailPath) -> Any:
        return letter

    async def prepare(self, letter: Any, to: MailPath) -> Callable[[object], None]:
        if self.refuses:
            raise NotWritable("There is no mailbox here for that address.")
        return lambda txn: self.filed.append((str(to) if to.domain else to.local, letter))

    def take(self) -> list[tuple[str, str, str]]:
        """To whom, subject, text; what was taken is gone."""
        found = [(to, str(letter["Subject"]), " ".join(letter.get_content().split())) for to, letter in self.filed]
        self.filed.clear()
        return found


class Servers:
    """Stands for `Prober`: says what it is told to."""

    def __init__(self) -> None:
        self.verdict, self.words = Verdict.RIGHT, ""
        self.not_after = BEGIN + timedelta(days=400)
        self.pin = b"1" * 32
        self.asked: list[str] = []

    async def probe(self, domain: str, record: PartnerRecord, level: object) -> Probe:
        self.asked.append(domain)
        shown = ShownTls("TLSv1.3", "", "", (f"mx.{domain}",), "CA", self.not_after, self.pin, self.pin)
        at = Asked(f"mx.{domain}", "192.0.2.1", 25, self.verdict, self.words, shown=shown)
        return Probe(domain, "the record", (at,), "none")


class World:
    def __init__(self, config: Config, *records: PartnerRecord, at: datetime = BEGIN) -> None:
        self.config = config
        self.clock = Clock()
        self.clock.rightNow = at.timestamp()
        self.book = PartnerBook(records)
        self.letters, self.servers, self.engine = Letters(), Servers(), MemoryEngine()
        self.watch = self.make()

    def make(self) -> PartnerWatch:
        """A process that works the queue."""
        given: Any = (self.engine, SECRETS, self.book, self.letters, lambda: self.servers, lambda: self.config)
        watch = PartnerWatch(*given, self.clock)
        run(watch.start())
        return watch

    def pass_days(self, days: float) -> list[tuple[str, str, str]]:
        """Letters of these days."""
        for _ in range(int(days * DAY_S / LOOK_S)):
            self.clock.advance(LOOK_S)
        return self.letters.take()


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return make_line(tmp_path)


@pytest.fixture
def world(line: Line) -> World:
    config = configuration.load(line.config)
    # Our own certificate is looked at in a test of its own.
    return World(
        replace(config, tls=replace(config.tls, default=replace(config.tls.default, certificate=Path("/nowhere")))),
        PartnerRecord("p.example"),
    )


def test_each_partner_is_looked_at_once_a_day_whoever_works_the_queue(world: World) -> None:
    assert world.pass_days(3.5) == []
    assert world.servers.asked == ["p.example"] * 4
    run(world.watch.stop())
    world.clock.advance(10 * DAY_S)
    assert len(world.servers.asked) == 4
    world.watch = world.make()
    world.pass_days(0.5)
    assert len(world.servers.asked) == 5
    world.book.restock([PartnerRecord("q.example", direction=Direction.IN)])
    world.pass_days(2)
    assert "q.example" not in world.servers.asked


def test_servers_that_fail_are_told_of_once_and_when_they_are_right_again(world: World) -> None:
    world.pass_days(1)
    world.servers.verdict, world.servers.words = Verdict.FAILS, "its certificate expired on 2027-01-01"
    ((to, subject, text),) = world.pass_days(1)
    assert to == "postmaster" and subject == "Partner p.example: its mail servers do not keep to the terms"
    assert "mx.p.example [192.0.2.1]: its certificate expired on 2027-01-01." in text
    assert "certmaild partner test p.example shows more" in text and "waits" in text
    assert "://" not in text
    assert world.pass_days(3) == []
    world.servers.verdict, world.servers.words = Verdict.RIGHT, ""
    ((_, subject, _),) = world.pass_days(1)
    assert subject == "Partner p.example: mail goes there again"
    assert world.pass_days(3) == []


def test_a_record_that_is_not_in_force_yet_is_told_of_in_other_words(world: World) -> None:
    world.book.configure([PartnerRecord("p.example", start=date(2028, 1, 1))])
    world.servers.verdict = Verdict.FAILS
    ((_, _, text),) = world.pass_days(1)
    assert "enforced from 2028-01-01 on; then mail would wait" in text


def test_nobody_reached_is_told_of_after_two_days(world: World) -> None:
    world.servers.verdict, world.servers.words = Verdict.UNREACHED, "it does not answer"
    assert world.pass_days(1.9) == []
    ((_, subject, text),) = world.pass_days(1)
    assert subject.endswith("none of its mail servers is reached") and "it does not answer." in text
    assert world.pass_days(3) == []


def test_a_certificate_that_runs_out_is_warned_about_at_30_7_and_1_days_and_after(world: World) -> None:
    world.servers.not_after = BEGIN + timedelta(days=40)
    told = []
    for day in range(45):
        told += [(day, subject, text) for _, subject, text in world.pass_days(1)]
        # Another process has the queue each day, and knows what was told.
        run(world.watch.stop())
        world.watch = world.make()
    assert [day for day, _, _ in told] == [10, 33, 39, 40]
    assert {subject for _, subject, _ in told} == {"Partner p.example: a certificate runs out"}
    assert "The certificate of mx.p.example runs out in 29 days, on 2027-02-10." in told[0][2]
    assert "has run out on 2027-02-10." in told[3][2]
    world.servers.not_after, world.servers.pin = BEGIN + timedelta(days=50), b"2" * 32
    ((_, _, text),) = world.pass_days(1)
    assert "runs out in 4 days" in text


def test_theirs_are_told_too_where_that_is_set(world: World) -> None:
    world.config = replace(world.config, outbound=replace(world.config.outbound, warn_partners=True))
    world.servers.not_after = BEGIN + timedelta(days=5)
    ours, theirs = world.pass_days(1)
    assert (ours[0], theirs[0]) == ("postmaster", "postmaster@p.example")
    assert theirs[1] == "A certificate of your mail server runs out (p.example)"
    assert "From then on mail from example.com to p.example waits" in theirs[2]


def test_what_stands_in_a_record_runs_out_too(world: World, tmp_path: Path) -> None:
    root = tls_support.authority("Their authority")
    shown = root.issue("us.example", end=timedelta(days=3))
    certificate, key = shown.write(tmp_path)
    at = datetime.now(UTC)
    world = World(world.config, at=at)
    world.servers.not_after = at + timedelta(days=400)
    record = PartnerRecord("p.example", ca=Pem(root.pem.decode()), client=ClientFiles(certificate, key))
    world.book.configure([record])
    world.config = replace(world.config, outbound=replace(world.config.outbound, warn_partners=True))
    letters = world.pass_days(1)
    assert [to for to, _, _ in letters] == ["postmaster"]
    assert "The certificate that we show to p.example runs out in 2 days" in letters[0][2]


def test_our_own_is_warned_about_when_it_was_not_renewed(line: Line, tmp_path: Path) -> None:
    config = configuration.load(line.config)
    certificate, key = tls_support.authority().issue("mail.example.com", end=timedelta(days=20)).write(tmp_path)
    files = replace(config.tls.default, certificate=certificate, key=key)
    for private, expected in ((False, [0, 13, 19, 20]), (True, [13, 19, 20])):
        world = World(replace(config, tls=replace(config.tls, default=files, private=private)), at=datetime.now(UTC))
        told = [(day, one) for day in range(22) for one in world.pass_days(1)]
        assert [day for day, _ in told] == expected
        to, subject, text = told[0][1]
        assert (to, subject) == ("postmaster", "A certificate of this server runs out")
        assert "The certificate of this server runs out in" in text and "renew it before" in text


def test_without_anybody_to_write_to_it_goes_on(world: World) -> None:
    world.letters.refuses = True
    world.servers.verdict = Verdict.FAILS
    assert world.pass_days(2) == []
    assert len(world.servers.asked) == 2


def test_what_is_remembered_of_partners_who_are_gone_goes(world: World) -> None:
    def rows() -> int:
        return len(run(world.engine.read(lambda txn: list(txn.scan(Table.PARTNER, WATCHED, AFTER_WATCHED)))))

    world.pass_days(1)
    assert rows() == 2
    world.book.configure([])
    world.pass_days(1)
    assert rows() == 1


def test_a_problem_with_dns_is_told_in_words(world: World) -> None:
    async def probe(domain: str, record: PartnerRecord, level: object) -> Probe:
        return Probe(domain, "", (), "none", Problem(True, 550, "5.1.2", "There is no domain p.example."))

    world.servers.probe = probe  # type: ignore[method-assign]
    ((_, _, text),) = world.pass_days(1)
    assert "There is no domain p.example." in text
