"""Sessions that send without waiting for an answer: what the others lose by it (DESIGN section 7)."""

import pytest
from clients import Imap
from daemon import Account, Daemon
from fairness import flooding

SESSIONS = 20
ASKED = 30
SHARE_S = 0.05
"""Two or three turns of the reactor, with what it reads and writes between them, many times over."""


@pytest.mark.parametrize("kind", ["noop", "fetch", "list", "pop3", "smtp"])
def test_a_flood_of_commands_costs_another_client_its_share_only(daemon: Daemon, account: Account, kind: str) -> None:
    """What the server works while one NOOP waits, in seconds of its own CPU: the machine's load is not in it."""
    other = daemon.add_user(f"patient-{kind}")
    patient = Imap(daemon.ports["imaps"], daemon.tls_context(), other.address, other.password)
    with flooding(daemon, kind, account, SESSIONS) as flood:
        while flood.answered.value < SESSIONS * 10:
            patient.command(b"NOOP")
        begun = daemon.cpu_s()
        for _ in range(ASKED):
            patient.command(b"NOOP")
        took = (daemon.cpu_s() - begun) / ASKED
    patient.lines.close()
    print(kind, took)
    assert took < SHARE_S
