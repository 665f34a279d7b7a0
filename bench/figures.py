"""A JSON line per figure, and the deterministic corpus that every benchmark sends."""

import base64
import json
import random
import statistics
import sys
from collections.abc import Sequence

WORDS = (
    "the patient was seen in clinic today and reports no new symptoms since last visit blood pressure remains well "
    "controlled on current medication follow up in six months with results of laboratory tests please call with "
    "any questions kind regards department of medicine referral letter attached invoice statement account number"
).split()


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
    """Message ``number`` of the corpus, of about ``octets``: text with a base64 part, CRLF throughout."""
    dice = random.Random(number)
    lines = []
    size = 0
    while size < octets // 2:
        line = " ".join(dice.choice(WORDS) for _ in range(11))
        lines.append(line)
        size += len(line) + 2
    noise = base64.b64encode(dice.randbytes(max(1, (octets - size - 900) * 3 // 4))).decode()
    attachment = "\r\n".join(noise[at : at + 76] for at in range(0, len(noise), 76))
    boundary = f"=_part_{number:08x}"
    return (
        f"From: Bob Example <bob{number % 50}@sender.example>\r\nTo: Ann <{to}>\r\n"
        f"Subject: {' '.join(dice.choice(WORDS) for _ in range(6))} {number}\r\n"
        f"Date: Mon, 23 Nov 2026 {number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d} +0000\r\n"
        f"Message-ID: <bench.{number}@sender.example>\r\nReferences: <bench.{number // 10}@sender.example>\r\n"
        f'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="{boundary}"\r\n\r\n'
        f"--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + "\r\n".join(lines) + "\r\n"
        f'--{boundary}\r\nContent-Type: application/octet-stream; name="scan{number}.bin"\r\n'
        f'Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename="scan{number}.bin"\r\n\r\n'
        f"{attachment}\r\n--{boundary}--\r\n"
    ).encode()


def wish(name: str, default: int) -> int:
    """``--name N`` from the command line, else ``default``."""
    words = sys.argv[1:]
    flag = f"--{name}"
    return int(words[words.index(flag) + 1]) if flag in words else default
