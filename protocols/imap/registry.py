"""The commands there are: by name, what runs them, in which states, and what may be told before their OK.

To add a command: write ``commands/<name>.py`` with ``async def run(context, command)`` and a line here.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context, Sync
from certmaild.protocols.imap.session import State

ANY = frozenset({State.NOT_AUTHENTICATED, State.AUTHENTICATED, State.SELECTED})
BEFORE_LOGIN = frozenset({State.NOT_AUTHENTICATED})
AFTER_LOGIN = frozenset({State.AUTHENTICATED, State.SELECTED})
SELECTED = frozenset({State.SELECTED})


@dataclass(frozen=True, slots=True)
class Spec:
    """How one command is run."""

    run: Callable[[Context, Command], Awaitable[None]]
    states: frozenset[State]
    sync: Sync = Sync.ALL


COMMANDS: dict[bytes, Spec] = {}
