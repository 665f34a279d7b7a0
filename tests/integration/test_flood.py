"""One address guesses passwords over many connections; others go on logging in (KEYS section 19.6)."""

from pathlib import Path
from statistics import median

from daemon import Daemon
from flood import Flood, measure, prepare

BEARABLE_S = 0.2


def test_a_flood_of_wrong_passwords_slows_nobody_elsewhere(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        victim, device, people = prepare(daemon, 10)
        quiet = measure(daemon, device, people[:5], 20)
        with Flood(daemon, victim, connections=50, pipelined=20) as flood:
            loud = measure(daemon, device, people[5:], 40)
    assert flood.answers["refused"]
    assert median(loud["device"]) < BEARABLE_S
    assert median(loud["again"]) < BEARABLE_S
    # A first log-in takes a slow hash of its own, however quiet it is; it may share its core with the flood's.
    assert median(loud["human"]) < 2 * median(quiet["human"]) + BEARABLE_S
