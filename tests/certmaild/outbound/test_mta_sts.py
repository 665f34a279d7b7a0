"""Which policy counts: the stored one, the announced one, the one of yesterday (RFC 8461 sections 3 and 5)."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from dns_support import ScriptedLookup
from support import lmdb_engine, run, start
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from certmaild.keystore.server_secrets import QueueSeals
from certmaild.keystore.tls_values import TlsResult
from certmaild.mailbox.engine_lmdb import LmdbEngine
from certmaild.mailbox.layout import Table
from certmaild.mailbox.sts_policies import StsRows
from certmaild.outbound.mta_sts import MtaSts, StsFinding
from certmaild.outbound.sts_fetch import FetchFailed
from certmaild.outbound.sts_policy import Mode

NAME = ("_mta-sts.example.org", "TXT")
DAY = 86_400


def policy(mode: str = "enforce", mx: str = "mx.example.org", max_age: int = 7 * DAY) -> str:
    return f"version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: {max_age}\n"


@dataclass
class ScriptedFetch:
    answers: list[str | FetchFailed] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    held: "Deferred[None] | None" = None

    async def fetch(self, domain: str) -> str:
        self.fetched.append(domain)
        if self.held is not None:
            await self.held
        answer = self.answers.pop(0)
        if isinstance(answer, FetchFailed):
            raise answer
        return answer


class World:
    """One server's view, over a real store."""

    def __init__(self, engine: LmdbEngine) -> None:
        self.engine = engine
        self.lookup = ScriptedLookup({NAME: ['"v=STSv1; id=1"']})
        self.fetch = ScriptedFetch([policy()])
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.restart()

    def restart(self) -> None:
        self.rows = StsRows(QueueSeals(bytes(32)))
        self.sts = MtaSts(self.lookup, self.fetch, self.engine, self.rows, self.clock)

    def find(self) -> StsFinding:
        return run(self.sts.find("example.org"))

    def announce(self, text: str | None) -> None:
        self.lookup.table[NAME] = "FAIL" if text is None else [f'"{text}"'] if text else []


@pytest.fixture
def world(tmp_path: Path) -> World:
    engine = lmdb_engine(tmp_path)
    engine.start()
    yield World(engine)
    run(engine.close())


FAILED = FetchFailed(TlsResult.STS_POLICY_FETCH_ERROR, "the policy host answers 500")


def test_a_policy_is_fetched_once_and_kept_over_a_restart(world: World) -> None:
    for _ in range(3):
        finding = world.find()
        assert finding.is_enforced
        assert finding.policy is not None
        assert finding.policy.hosts == ("mx.example.org",)
        world.restart()
    assert world.fetch.fetched == ["example.org"]


def test_what_is_stored_is_sealed(world: World) -> None:
    world.find()
    ((key, value),) = run(world.engine.read(lambda txn: list(txn.scan(Table.STS, b""))))
    assert len(key) == 16
    assert b"example" not in key + value
    assert b"STSv1" not in value


@pytest.mark.parametrize("text", ["", None, "v=STSv1; id=", "v=spf1 -all"])
def test_a_kept_policy_counts_whatever_dns_says(world: World, text: str | None) -> None:
    world.find()
    world.announce(text)
    assert world.find().is_enforced
    world.clock.advance(7 * DAY - 1)
    assert world.find().is_enforced
    world.clock.advance(1)
    assert world.find() == StsFinding(unasked="the DNS server says SERVFAIL" if text is None else "")


@pytest.mark.parametrize("text", ["", None, "v=STSv1; id="])
def test_without_an_announcement_nothing_is_fetched(world: World, text: str | None) -> None:
    world.announce(text)
    assert world.find() == StsFinding(unasked="the DNS server says SERVFAIL" if text is None else "")
    assert world.fetch.fetched == []


def test_a_new_id_brings_a_new_policy(world: World) -> None:
    world.find()
    world.announce("v=STSv1; id=2")
    world.fetch.answers = [policy("testing", "*.example.net")]
    finding = world.find()
    assert finding.policy is not None
    assert (finding.policy.mode, finding.is_enforced) == (Mode.TESTING, False)
    world.announce("v=STSv1; id=3")
    world.fetch.answers = [policy("none")]
    assert world.find().policy is None


def test_a_failed_fetch_keeps_the_old_policy_and_says_so(world: World) -> None:
    world.find()
    world.announce("v=STSv1; id=2")
    world.fetch.answers = [FAILED]
    finding = world.find()
    assert finding.is_enforced
    assert (finding.failure, finding.reason) == (TlsResult.STS_POLICY_FETCH_ERROR, "the policy host answers 500")


def test_a_failed_fetch_is_not_repeated_for_five_minutes(world: World) -> None:
    world.fetch.answers = [FAILED, policy()]
    for _ in range(3):
        finding = world.find()
        assert (finding.policy, finding.failure) == (None, TlsResult.STS_POLICY_FETCH_ERROR)
    assert len(world.fetch.fetched) == 1
    world.clock.advance(300)
    assert world.find().is_enforced


def test_an_invalid_file_is_no_policy(world: World) -> None:
    world.fetch.answers = ["<html>"]
    finding = world.find()
    assert (finding.policy, finding.failure) == (None, TlsResult.STS_POLICY_INVALID)
    assert finding.reason == "the policy is not valid: a line has no colon"


def test_all_who_ask_at_once_wait_for_one_fetch(world: World) -> None:
    world.fetch.held = Deferred()
    asking = [start(world.sts.find("example.org")) for _ in range(5)]
    held, world.fetch.held = world.fetch.held, None
    held.callback(None)
    assert all(run(one).is_enforced for one in asking)
    assert len(world.fetch.fetched) == 1


def test_policies_are_refreshed_before_they_are_over(world: World) -> None:
    world.find()
    run(world.sts.refresh())
    assert len(world.fetch.fetched) == 1
    world.clock.advance(DAY)
    world.fetch.answers = [policy(mx="new.example.org")]
    run(world.sts.refresh())
    finding = world.find()
    assert finding.policy is not None
    assert finding.policy.hosts == ("new.example.org",)
    world.clock.advance(DAY)
    world.fetch.answers = [FAILED]
    run(world.sts.refresh())
    assert world.find().is_enforced
    world.clock.advance(7 * DAY)
    world.announce("")
    run(world.sts.refresh())
    assert run(world.engine.read(lambda txn: list(txn.scan(Table.STS, b"")))) == []


def test_a_short_life_is_refreshed_half_way(world: World) -> None:
    world.fetch.answers = [policy(max_age=3600), policy(max_age=3600)]
    world.find()
    world.clock.advance(1800)
    run(world.sts.refresh())
    assert len(world.fetch.fetched) == 2


def test_a_row_that_does_not_open_is_fetched_again(world: World) -> None:
    world.find()
    ((key, value),) = run(world.engine.read(lambda txn: list(txn.scan(Table.STS, b""))))
    run(world.engine.write(lambda txn: txn.put(Table.STS, key, value[:-1] + bytes([value[-1] ^ 1]))))
    world.fetch.answers = [policy()]
    assert world.find().is_enforced
    assert len(world.fetch.fetched) == 2
