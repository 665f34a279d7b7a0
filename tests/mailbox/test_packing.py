"""Compression in several threads at once."""

import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.packing import pack, unpack, unpack_all

# Large enough that zstd works outside Python's lock.
TEXTS = [os.urandom(200) * random.Random(n).randint(1, 900) for n in range(20)]


def test_threads_do_not_disturb_each_other() -> None:
    """With one shared context this gives wrong octets, errors and crashes."""

    def work(seed: int) -> int:
        dice = random.Random(seed)
        wrong = 0
        for _ in range(600):
            text = dice.choice(TEXTS)
            wrong += unpack(pack(text), len(text)) != text
        return wrong

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(work, range(4))) == 0


def test_frames_end_to_end() -> None:
    whole = b"one" + b"two" * 300_000
    packed = pack(b"one", -1) + pack(b"") + pack(b"two" * 300_000)
    assert unpack_all(packed, len(whole)) == whole
    assert unpack_all(b"", 0) == b""
    for octets in (0, 3, len(whole) - 1, len(whole) + 1):
        with pytest.raises(Damaged):
            unpack_all(packed, octets)
    with pytest.raises(Damaged):
        unpack_all(packed[:-1], len(whole))


@pytest.mark.parametrize("wrong", [b"no zstd at all", pack(b"x" * 1000)[:-1]])
def test_what_is_no_frame_is_damaged(wrong: bytes) -> None:
    with pytest.raises(Damaged):
        unpack(wrong, 1000)


def test_no_more_than_was_said() -> None:
    with pytest.raises(Damaged):
        unpack_all(b"no zstd at all", 14)
    with pytest.raises(Damaged):
        unpack(b"\x28\xb5\x2f\xfd\x00\x48" + pack(b"x" * 10_000)[6:], 10)
