"""What is remembered of destinations, and how long a message waits for DNS."""

from support import run
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from certmaild.guests.proof import REMEMBERED_S, Proofs
from certmaild.outbound.values import Problem, SelfProof

PROVEN = SelfProof(True, "by DANE")
FAILED = Problem(False, 451, "4.4.3", "DNS could not be asked.")


class World:
    """A planner that is asked, and a clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.asked: list[str] = []
        self.answers: dict[str, SelfProof | Problem] = {}
        self.open: dict[str, Deferred[SelfProof | Problem]] = {}
        self.proofs = Proofs(lambda: self, self.clock)

    async def proves_itself(self, domain: str) -> SelfProof | Problem:
        self.asked.append(domain)
        if domain in self.answers:
            return self.answers[domain]
        self.open[domain] = Deferred()
        return await self.open[domain]

    def of(self, *domains: str) -> dict[str, SelfProof | Problem]:
        return run(self.proofs.of(domains, 20.0))


def test_an_answer_counts_for_minutes_and_a_failure_for_nothing() -> None:
    world = World()
    world.answers = {"a.example": PROVEN, "b.example": FAILED}
    expected = {"a.example": PROVEN, "b.example": FAILED}
    assert world.of("a.example", "b.example", "a.example") == expected
    world.clock.advance(REMEMBERED_S - 1)
    assert world.of("a.example", "b.example") == expected
    assert world.asked == ["a.example", "b.example", "b.example"]
    world.clock.advance(1)
    assert world.of("a.example") == {"a.example": PROVEN}
    world.proofs.forget()
    assert world.of("a.example") == {"a.example": PROVEN}
    assert world.asked[3:] == ["a.example", "a.example"]


def test_dns_is_waited_for_no_longer_than_the_limit() -> None:
    world = World()
    waiting = Deferred.fromCoroutine(world.proofs.of(["slow.example"], 20.0))
    found: list[dict[str, SelfProof | Problem]] = []
    waiting.addCallback(found.append)
    world.clock.advance(19.9)
    assert not found
    world.clock.advance(0.2)
    assert found[0]["slow.example"] == Problem(
        False, 451, "4.4.3", "DNS takes too long to say how slow.example proves itself."
    )
    # The question went on, and its answer is known to the next who asks.
    world.open["slow.example"].callback(PROVEN)
    assert world.of("slow.example") == {"slow.example": PROVEN}
    assert world.asked == ["slow.example"]


def test_one_question_for_all_who_ask_at_once() -> None:
    world = World()
    found: list[dict[str, SelfProof | Problem]] = []
    for _ in range(3):
        Deferred.fromCoroutine(world.proofs.of(["a.example"], 20.0)).addCallback(found.append)
    world.open["a.example"].callback(PROVEN)
    assert found == [{"a.example": PROVEN}] * 3
    assert world.asked == ["a.example"]
