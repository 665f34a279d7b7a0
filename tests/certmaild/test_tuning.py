"""Limits of the process, set for real in a child."""

import json
import subprocess
import sys

CHILD = """
import json, resource, sys
from certmaild.tuning import raise_descriptor_limit
soft, hard, connections = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
said = raise_descriptor_limit(connections)
print(json.dumps([*resource.getrlimit(resource.RLIMIT_NOFILE), said]))
"""


def limits_after(soft: int, hard: int, connections: int) -> tuple[int, int, str | None]:
    words = [sys.executable, "-c", CHILD, str(soft), str(hard), str(connections)]
    soft, hard, said = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    return soft, hard, said


def test_the_soft_limit_is_raised_as_far_as_needed() -> None:
    assert limits_after(256, 4000, 500) == (1500, 4000, None)


def test_a_soft_limit_that_is_enough_stays() -> None:
    assert limits_after(3000, 4000, 500) == (3000, 4000, None)


def test_what_the_system_does_not_allow_is_said_with_the_remedy() -> None:
    soft, hard, said = limits_after(256, 1024, 500)
    assert (soft, hard) == (1024, 1024)
    assert said is not None and "LimitNOFILE=1500" in said and "limits.connections = 500" in said
