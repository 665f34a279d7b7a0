"""A JSON line per figure, and the deterministic corpus that every benchmark sends."""

import base64
import json
import random
import statistics
import sys
from collections.abc import Sequence
from functools import cache

WORDS = (
    "the patient was seen in clinic today and reports no new symptoms since last visit blood pressure remains well "
    "controlled on current medication follow up in six months with results of laboratory tests please call with "
    "any questions kind regards department of medicine referral letter attached invoice statement account number"
).split()


BODIES = 100
"""Different bodies of one size in the corpus."""
HEADER_OCTETS = 430
"""Of a message of the corpus, about."""


def print_figure(name: str, **values: float | int | str) -> None:
    """One JSON line on standard output; numbers are rounded to four significant places after the point."""
    rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in values.items()}
    print(json.dumps({"figure": name, **rounded}), flush=True)


def percentiles_ms(times_s: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds."""
    if len(times_s) < 2:
        only = times_s[0] * 1000 if times_s else 0.0
        return {"p50_ms": only, "p95_ms": only, "p99_ms": only}
    cuts = statistics.quantiles(times_s, n=100)
    return {"p50_ms": cuts[49] * 1000, "p95_ms": cuts[94] * 1000, "p99_ms": cuts[98] * 1000}


def make_message(number: int, octets: int, *, to: str = "ann@example.com") -> bytes:
    """Message ``number`` of the corpus, of ``octets`` or little more: text with a base64 part, CRLF throughout.

    Its header is its own; the body is one of `BODIES`, so that a corpus of thousands is made in no time.
    """
    kind = number % BODIES
    head = (
        f"From: Bob Example <bob{number % 50}@sender.example>\r\nTo: Ann <{to}>\r\n"
        f"Subject: {subject(kind)} {number}\r\n"
        f"Date: Mon, 23 Nov 2026 {number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d} +0000\r\n"
        f"Message-ID: <bench.{number}@sender.example>\r\nReferences: <bench.{number // 10}@sender.example>\r\n"
        f'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="=_part_{kind:08x}"\r\n\r\n'
    ).encode()
    return head + make_body(kind, octets - HEADER_OCTETS)


@cache
def subject(kind: int) -> str:
    """Six words."""
    dice = random.Random(-kind)
    return " ".join(dice.choice(WORDS) for _ in range(6))


@cache
def make_body(kind: int, octets: int) -> bytes:
    """Half text, half random octets in base64."""
    dice = random.Random(kind)
    lines = []
    size = 0
    while size < octets // 2:
        line = " ".join(dice.choice(WORDS) for _ in range(11))
        lines.append(line)
        size += len(line) + 2
    boundary = f"=_part_{kind:08x}"
    front = (
        f"--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + "\r\n".join(lines) + "\r\n"
        f'--{boundary}\r\nContent-Type: application/octet-stream; name="scan{kind}.bin"\r\n'
        f'Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename="scan{kind}.bin"\r\n\r\n'
    )
    back = f"\r\n--{boundary}--\r\n"
    clear = max(1, octets - len(front) - len(back)) * 57 // 78
    attachment = base64.encodebytes(dice.randbytes(clear)).decode().strip().replace("\n", "\r\n")
    return (front + attachment + back).encode()


def wish(name: str, default: int) -> int:
    """``--name N`` from the command line, else ``default``."""
    words = sys.argv[1:]
    flag = f"--{name}"
    return int(words[words.index(flag) + 1]) if flag in words else default
