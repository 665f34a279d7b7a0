"""An APPEND that keeps what it reads, for tests of what flows through the server."""

import pytest

from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.errors import No
from certmaild.protocols.imap.registry import AFTER_LOGIN, COMMANDS, Spec


def serve_append(monkeypatch: pytest.MonkeyPatch, taken: list[bytes], fail_after: int = 100) -> None:
    """An APPEND that keeps what it reads."""

    async def run(context: Context, command: Command) -> None:
        assert command.stream is not None
        if fail_after == 0:
            raise No(b"Refused.", b"TRYCREATE")
        while command.stream.more:
            octets = b""
            while chunk := await command.stream.read():
                octets += chunk
            taken.append(octets)
            if len(taken) == fail_after:
                raise No(b"Refused.")
            taken.append(await command.stream.next_text())
        await context.ok(command)

    monkeypatch.setitem(COMMANDS, b"APPEND", Spec(run, AFTER_LOGIN))
