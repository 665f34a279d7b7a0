"""The loan of the interpreter: it begins on the reactor's thread, ends with the work, and nobody waits for ever."""

import time
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread, current_thread

import pytest

from certmaild.mailbox import baton
from certmaild.mailbox.baton import borrowed

Call = tuple[Callable[..., None], tuple[object, ...]]


def reactor_of(calls: "SimpleQueue[Call]") -> Callable[..., None]:
    return lambda call, *args: calls.put((call, args))


def test_the_reactor_stands_aside_while_the_work_runs() -> None:
    calls: SimpleQueue[Call] = SimpleQueue()
    order: list[str] = []

    def work() -> None:
        with borrowed(reactor_of(calls)):
            order.append(current_thread().name)

    thread = Thread(target=work, name="writer")
    thread.start()
    call, args = calls.get(timeout=10)
    call(*args)
    order.append("reactor goes on")
    thread.join(10)
    assert order == ["writer", "reactor goes on"]


def test_the_reactor_waits_no_longer_than_the_loan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baton, "LOAN_S", 0.01)
    calls: SimpleQueue[Call] = SimpleQueue()
    gone_on: SimpleQueue[None] = SimpleQueue()

    def work() -> None:
        with borrowed(reactor_of(calls)):
            gone_on.get(timeout=10)

    thread = Thread(target=work)
    thread.start()
    call, args = calls.get(timeout=10)
    call(*args)
    gone_on.put(None)
    thread.join(10)
    assert not thread.is_alive()


def test_a_thread_goes_on_without_the_loan_when_the_reactor_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baton, "PATIENCE_S", 0.01)
    monkeypatch.setattr(baton, "LOAN_S", 60)
    calls: SimpleQueue[Call] = SimpleQueue()
    with borrowed(reactor_of(calls)):
        pass
    call, args = calls.get(timeout=10)
    begun = time.monotonic()
    call(*args)
    assert time.monotonic() - begun < 30, "a loan that is over is not waited for"


def test_work_that_fails_gives_the_interpreter_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baton, "PATIENCE_S", 0.01)
    monkeypatch.setattr(baton, "LOAN_S", 60)
    calls: SimpleQueue[Call] = SimpleQueue()
    with pytest.raises(KeyError), borrowed(reactor_of(calls)):
        raise KeyError
    call, args = calls.get(timeout=10)
    begun = time.monotonic()
    call(*args)
    assert time.monotonic() - begun < 30
