"""A house for each test, and a command that waits."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from imap_support import House
from twisted.internet.defer import Deferred

from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.registry import AFTER_LOGIN, COMMANDS, Spec


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> Iterator["Deferred[None]"]:
    """A command HANG that waits for this."""
    waiting: Deferred[None] = Deferred()

    async def run(context: Context, command: Command) -> None:
        await waiting
        await context.ok(command)

    monkeypatch.setitem(COMMANDS, b"HANG", Spec(run, AFTER_LOGIN))
    yield waiting
