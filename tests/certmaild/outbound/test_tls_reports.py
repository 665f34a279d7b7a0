"""TLS reports (RFC 8460): counted, kept over restarts, written, sent once to those who want them."""

import gzip
import json
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP, default
from pathlib import Path
from typing import Any

import pytest
from delivery_support import House
from dns_support import ScriptedLookup
from support import lmdb_engine, memory_engine, run
from twisted.internet.task import Clock

from certmaild.keystore.server_secrets import FILES, QueueSeals, ServerSecrets
from certmaild.keystore.tls_values import TlsResult
from certmaild.mailbox.engine_lmdb import LmdbEngine
from certmaild.mailbox.errors import StoreUnavailable
from certmaild.mailbox.interfaces import WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.tls_days import TlsDays
from certmaild.outbound.interfaces import PolicyKind, TlsPolicy, Work
from certmaild.outbound.tls_report import Submitter, parse_report_addresses
from certmaild.outbound.tls_reports import SPREAD_S, TlsReports
from certmaild.outbound.tls_tally import MAX_FAILURES, MAX_POLICIES, TlsTally
from certmaild.outbound.values import Destination, RouteKind
from certmaild.partners.book import PartnerBook

DAY = 20_000
STS = TlsPolicy(PolicyKind.STS, ("version: STSv1", "mode: testing"), ("*.example.org",))
NAME = ("_smtp._tls.example.org", "TXT")


class Mail:
    def __init__(self) -> None:
        self.prepared: list[tuple[EmailMessage, str]] = []
        self.filed: list[tuple[str, bytes]] = []
        self.broken = False

    async def prepare_letter(self, letter: EmailMessage, to: str) -> Work:
        if self.broken:
            raise StoreUnavailable
        self.prepared.append((letter, to))

        def work(txn: WriteTxn) -> None:
            self.filed.append((to, letter.as_bytes(policy=SMTP)))

        return work


class World:
    def __init__(self, engine: LmdbEngine) -> None:
        self.engine = engine
        self.clock = Clock()
        self.clock.advance(DAY * 86_400 + 3600)
        self.lookup = ScriptedLookup({NAME: ['"v=TLSRPTv1; rua=mailto:tls@example.org"']})
        self.mail = Mail()
        self.restart()

    def restart(self) -> None:
        days = TlsDays(QueueSeals(bytes(32)))
        self.tally = TlsTally(self.engine, days, self.clock.seconds)
        submitter = Submitter("mx.example.com", "example.com", "postmaster@example.com")
        self.reports = TlsReports(self.engine, days, self.tally, self.lookup, self.mail, lambda: submitter, self.clock)

    def day_is_over(self) -> None:
        self.clock.advance(86_400)

    def rows(self) -> list[tuple[bytes, bytes]]:
        return run(self.engine.read(lambda txn: list(txn.scan(Table.TLSRPT, b""))))

    def send(self) -> list[dict[str, Any]]:
        """What goes out, as JSON."""
        self.mail.filed.clear()
        run(self.reports.send())
        return [read(octets)[1] for _, octets in self.mail.filed]


def read(octets: bytes) -> tuple[EmailMessage, dict[str, Any]]:
    message = message_from_bytes(octets, policy=default)
    assert isinstance(message, EmailMessage)
    (attached,) = message.iter_attachments()
    return message, json.loads(gzip.decompress(attached.get_content()))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    engine = lmdb_engine(tmp_path)
    engine.start()
    yield World(engine)
    run(engine.close())


def count(world: World) -> None:
    world.tally.policy("example.org", STS)
    world.tally.session("example.org", "mx.example.org", "192.0.2.1", None)
    for _ in range(2):
        result = TlsResult.CERTIFICATE_EXPIRED
        world.tally.session("example.org", "mx.example.org", "192.0.2.1", result, "its certificate expired")


def test_the_report_of_a_day(world: World) -> None:
    count(world)
    world.day_is_over()
    (report,) = world.send()
    ((to, octets),) = world.mail.filed
    message, _ = read(octets)
    report_id = report["report-id"]
    assert to == "tls@example.org"
    assert message["Subject"] == f"Report Domain: example.org Submitter: example.com Report-ID: <{report_id}>"
    assert (message["TLS-Report-Domain"], message["TLS-Report-Submitter"]) == ("example.org", "example.com")
    assert message["TLS-Required"] == "No"
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "tlsrpt"
    text, attached = message.iter_parts()
    assert "Connections that did not: 2" in text.get_content()
    assert "://" not in text.get_content()
    assert attached.get_content_type() == "application/tlsrpt+gzip"
    begin = DAY * 86_400
    assert attached.get_filename() == f"mx.example.com!example.org!{begin}!{begin + 86_399}.json.gz"
    assert report == {
        "organization-name": "example.com",
        "date-range": {"start-datetime": "2024-10-04T00:00:00Z", "end-datetime": "2024-10-04T23:59:59Z"},
        "contact-info": "postmaster@example.com",
        "report-id": report_id,
        "policies": [
            {
                "policy": {
                    "policy-type": "sts",
                    "policy-string": ["version: STSv1", "mode: testing"],
                    "policy-domain": "example.org",
                    "mx-host": ["*.example.org"],
                },
                "summary": {"total-successful-session-count": 1, "total-failure-session-count": 2},
                "failure-details": [
                    {
                        "result-type": "certificate-expired",
                        "receiving-mx-hostname": "mx.example.org",
                        "receiving-ip": "192.0.2.1",
                        "failed-session-count": 2,
                        "failure-reason-code": "its certificate expired",
                    }
                ],
            }
        ],
    }


def test_counts_are_kept_over_restarts_and_reported_once(world: World) -> None:
    for _ in range(3):
        count(world)
        run(world.reports.stop())
        world.restart()
    assert world.send() == [], "the day is not over"
    world.day_is_over()
    (report,) = world.send()
    assert report["policies"][0]["summary"] == {
        "total-successful-session-count": 3,
        "total-failure-session-count": 6,
    }
    assert world.send() == []
    assert world.rows() == []


def test_rows_name_nobody(world: World) -> None:
    count(world)
    run(world.tally.flush())
    ((key, value),) = world.rows()
    assert len(key) == 20
    assert b"example" not in key + value


def test_what_is_not_planned_by_policy_is_not_counted(world: World) -> None:
    world.tally.session("example.org", "mx.example.org", "192.0.2.1", None)
    run(world.tally.flush())
    assert world.rows() == []


def test_each_policy_of_a_day_stands_for_itself(world: World) -> None:
    world.tally.policy("example.org", TlsPolicy(PolicyKind.NONE))
    world.tally.session("example.org", "mx.example.org", "192.0.2.1", None)
    count(world)
    world.day_is_over()
    (report,) = world.send()
    assert [one["policy"]["policy-type"] for one in report["policies"]] == ["no-policy-found", "sts"]
    assert report["policies"][0]["policy"] == {"policy-type": "no-policy-found", "policy-domain": "example.org"}


@pytest.mark.parametrize("text", [[], ['"v=TLSRPTv1; rua=https://example.org/"'], ['"v=spf1 -all"']])
def test_who_wants_none_by_mail_gets_none(world: World, text: list[str]) -> None:
    world.lookup.table[NAME] = text
    count(world)
    world.day_is_over()
    assert world.send() == []
    assert world.rows() == []


@pytest.mark.parametrize("what", ["dns", "mail"])
def test_what_fails_is_tried_for_two_days(world: World, what: str) -> None:
    count(world)
    world.lookup.table[NAME] = "FAIL" if what == "dns" else world.lookup.table[NAME]
    world.mail.broken = what == "mail"
    for _ in range(2):
        world.day_is_over()
        assert world.send() == []
        assert len(world.rows()) == 1
    world.day_is_over()
    assert world.send() == []
    assert world.rows() == []


def test_a_row_that_does_not_open_goes(world: World) -> None:
    count(world)
    run(world.tally.flush())
    ((key, value),) = world.rows()
    run(world.engine.write(lambda txn: txn.put(Table.TLSRPT, key, value[:-1] + bytes([value[-1] ^ 1]))))
    count(world)
    run(world.tally.flush())
    world.day_is_over()
    (report,) = world.send()
    assert report["policies"][0]["summary"]["total-failure-session-count"] == 2


def test_kinds_of_failures_and_policies_are_bounded(world: World) -> None:
    for number in range(3 * MAX_POLICIES):
        world.tally.policy("example.org", TlsPolicy(PolicyKind.TLSA, (str(number),)))
        for address in range(2 * MAX_FAILURES):
            world.tally.session("example.org", "mx", str(address), TlsResult.TLSA_INVALID, "x" * 9999)
            if address == MAX_FAILURES + 3:
                run(world.tally.flush())
    world.day_is_over()
    (report,) = world.send()
    assert len(report["policies"]) == MAX_POLICIES
    first = report["policies"][0]
    assert first["summary"]["total-failure-session-count"] == 2 * MAX_FAILURES
    assert len(first["failure-details"]) == MAX_FAILURES


def test_counts_survive_a_store_that_fails(world: World) -> None:
    count(world)
    write, world.engine.write = world.engine.write, _broken  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        run(world.tally.flush())
    world.engine.write = write  # type: ignore[method-assign]
    count(world)
    world.day_is_over()
    (report,) = world.send()
    assert report["policies"][0]["summary"]["total-failure-session-count"] == 4


async def _broken(*_: Any, **__: Any) -> None:
    raise StoreUnavailable


def test_it_runs_by_itself_after_midnight(world: World) -> None:
    world.reports.start()
    count(world)
    heard_at = 0.0
    for _ in range(86_400 // 600 + SPREAD_S // 600 + 6):
        world.clock.advance(600)
        run(world.engine.write(lambda txn: None))
        if world.mail.filed and not heard_at:
            heard_at = world.clock.seconds() - (DAY + 1) * 86_400
    assert 0 < heard_at <= SPREAD_S + 5 * 600, "work in the store takes a few turns of this clock"
    assert [to for to, _ in world.mail.filed] == ["tls@example.org"]
    run(world.reports.stop())


@pytest.mark.parametrize(
    ("texts", "addresses"),
    [
        (
            (b"v=TLSRPTv1; rua=mailto:a@example.org,https://x.example/,mailto:b@Example.org",),
            ("a@example.org", "b@example.org"),
        ),
        ((b"v=TLSRPTv1;rua=MAILTO:a%2Bb@example.org?subject=x",), ("a+b@example.org",)),
        ((b"v=TLSRPTv1; rua=mailto:a@example.org!10m",), ("a@example.org",)),
        ((b"v=TLSRPTv1; rua=mailto:x",), ()),
        ((b"v=TLSRPTv1; rua=mailto:a%0d%0aBcc:b@example.org",), ()),
        ((b"v=TLSRPTv1; rua=mailto:a@example.org", b"v=TLSRPTv1; rua=mailto:b@example.org"), ()),
        ((b"v=TLSRPTv2; rua=mailto:a@example.org",), ()),
        (
            (b"v=TLSRPTv1; rua=" + b",".join(b"mailto:u%d@example.org" % n for n in range(99)),),
            tuple(f"u{n}@example.org" for n in range(5)),
        ),
    ],
)
def test_who_wants_reports(texts: tuple[bytes, ...], addresses: tuple[str, ...]) -> None:
    assert parse_report_addresses(texts) == addresses


def test_the_servers_own_mail_carries_it() -> None:
    """Through the real letters into the real queue, so that TLS which does not hold cannot hold the report back."""
    house = House(memory_engine(), ServerSecrets({name: bytes(32) for name in FILES}), partners=PartnerBook())
    clock, days = Clock(), TlsDays(house.secrets.queue)
    clock.advance(DAY * 86_400)
    tally = TlsTally(house.engine, days, clock.seconds)
    lookup = ScriptedLookup(
        {
            ("_smtp._tls.partner.example", "TXT"): [
                '"v=TLSRPTv1; rua=mailto:nobody@example.com,mailto:tls@partner.example"'
            ]
        }
    )
    submitter = Submitter("mx.example.com", "example.com", "postmaster@example.com")
    mail = house.correspondence.mail
    reports = TlsReports(house.engine, days, tally, lookup, mail, lambda: submitter, clock)
    tally.policy("partner.example", STS)
    tally.session("partner.example", "mx.partner.example", "192.0.2.1", TlsResult.STARTTLS_NOT_SUPPORTED, "no STARTTLS")
    clock.advance(86_400)
    run(reports.send())
    (queued,) = house.queued()
    ((recipient, destination, _),) = queued.recipients
    assert str(recipient.path) == "tls@partner.example"
    assert destination == Destination(RouteKind.SERVICE, "partner.example")
    assert (str(queued.envelope.reverse_path), queued.envelope.tls_optional) == ("", True)
    message, report = read(queued.content)
    assert message["From"] == "certmaild <postmaster@example.com>"
    assert report["policies"][0]["failure-details"][0]["result-type"] == "starttls-not-supported"
