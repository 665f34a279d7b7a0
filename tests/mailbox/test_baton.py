"""The loan of the interpreter: it begins on the reactor's thread, ends with the work, and nobody waits for ever."""

import time
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread

import pytest

from certmaild.mailbox import baton
from certmaild.mailbox.baton import Loan

Call = tuple[Callable[..., None], tuple[object, ...]]


def reactor_of(calls: "SimpleQueue[Call]") -> Callable[..., None]:
    return lambda call, *args: calls.put((call, args))


def test_the_reactor_stands_aside_while_the_work_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baton, "LOAN_S", 60)
    calls: SimpleQueue[Call] = SimpleQueue()
    order: list[str] = []

    def work() -> None:
        loan = Loan(reactor_of(calls))
        loan.begin()
        order.append("work")
        loan.end()

    thread = Thread(target=work)
    thread.start()
    call, args = calls.get(timeout=10)
    call(*args)
    order.append("reactor goes on")
    thread.join(10)
    assert order == ["work", "reactor goes on"]


def test_the_reactor_waits_no_longer_than_the_loan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baton, "LOAN_S", 0.01)
    calls: SimpleQueue[Call] = SimpleQueue()
    reactor_went_on: SimpleQueue[None] = SimpleQueue()

    def work() -> None:
        loan = Loan(reactor_of(calls))
        loan.begin()
        reactor_went_on.get(timeout=10)
        loan.end()

    thread = Thread(target=work)
    thread.start()
    call, args = calls.get(timeout=10)
    call(*args)
    reactor_went_on.put(None)
    thread.join(10)
    assert not thread.is_alive()


def test_a_thread_goes_on_without_the_loan_when_the_reactor_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baton, "PATIENCE_S", 0.01)
    monkeypatch.setattr(baton, "LOAN_S", 60)
    calls: SimpleQueue[Call] = SimpleQueue()
    loan = Loan(reactor_of(calls))
    loan.begin()
    loan.end()
    loan.end()
    call, args = calls.get(timeout=10)
    begun = time.monotonic()
    call(*args)
    assert time.monotonic() - begun < 30, "a loan that is over is not waited for"
