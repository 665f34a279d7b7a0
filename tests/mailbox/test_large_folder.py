"""What opening a folder of 100,000 messages costs, on LMDB with real seals; prints its figures (`-s`)."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mailbox_support import House, mail, make_house
from support import lmdb_engine, run

from certmaild.keystore.server_secrets import ServerSecrets

AT_ONCE = 1000
FIRST_S, AGAIN_S, STATUS_S = 0.5, 0.05, 0.01
"""Some twenty times what a quiet machine takes (25, 1.5 and 0.02 ms), so that only another order of cost fails."""


def timed(name: str, work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    spent = time.perf_counter() - begun
    print(f"{name:>24} {spent * 1000:9.2f} ms")
    return spent


def fill(house: House, count: int) -> None:
    """Real messages to begin with, then copies of them: each has rows of its own, as a move from elsewhere would."""
    first = house.append(*[mail(f"number {n}") for n in range(AT_ONCE)], box="Archive")
    source, target = house.box("Archive"), house.box()
    for _ in range(count // AT_ONCE):
        run(house.mailbox.copy(source, [range(first[0], first[-1] + 1)], target))


def measure(directory: Path, count: int) -> tuple[float, float, float]:
    """Seconds of the first SELECT, of one with all pages cached, and of STATUS."""
    secrets = ServerSecrets.create(directory / "secrets")
    engine = lmdb_engine(directory, sealer=secrets)
    engine.start()
    try:
        house = make_house(directory, engine, secrets=secrets)
        timed(f"fill with {count:,}", lambda: fill(house, count))
        house.reopen()
        box = house.box()
        first = timed("SELECT, nothing cached", lambda: run(house.mailbox.select(box)))
        state = run(house.mailbox.select(box))
        assert len(state.uids) == count
        assert list(state.uids[:2]) == [1, 2]
        assert state.first_unseen == 1
        again = min(timed("SELECT again", lambda: run(house.mailbox.select(box))) for _ in range(5))
        house.append(mail())
        timed("SELECT after one more", lambda: run(house.mailbox.select(box)))
        status = min(timed("STATUS", lambda: run(house.mailbox.status(box))) for _ in range(5))
        assert run(house.mailbox.status(box)).messages == count + 1
        return first, again, status
    finally:
        run(engine.close())


def test_a_folder_of_a_few_thousand(tmp_path: Path) -> None:
    measure(tmp_path, 3 * AT_ONCE)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_select_of_a_hundred_thousand(tmp_path: Path) -> None:
    first, again, status = measure(tmp_path, 100 * AT_ONCE)
    assert first < FIRST_S
    assert again < AGAIN_S
    assert status < STATUS_S
