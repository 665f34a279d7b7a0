"""MTA-STS policies as they are written: the TXT record that announces one, and the policy file (RFC 8461 section 3)."""

import re
from dataclasses import dataclass
from enum import Enum

from certmaild.partners.reading import host_name

LONGEST_S = 31_557_600
"""The highest ``max_age``: about a year (RFC 8461 section 3.2)."""
MAX_HOSTS = 100
"""``mx`` lines that are read."""
_ID = re.compile(r"[A-Za-z0-9]{1,32}")


class Mode(Enum):
    """What a policy asks of senders (RFC 8461 section 5)."""

    ENFORCE = "enforce"
    TESTING = "testing"
    """Failures are reported, and stop nothing."""
    NONE = "none"
    """There is no policy any more."""


class PolicyInvalid(ValueError):
    """The file is no policy. Its text is the end of a sentence."""


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """One domain's policy."""

    mode: Mode
    hosts: tuple[str, ...]
    """Patterns: lower-case A-labels, ``*.`` in front for one label."""
    max_age_s: int

    def covers(self, host: str) -> bool:
        """Whether a lower-case MX host name fits a pattern (RFC 8461 section 4.1)."""
        return host in self.hosts or "*." + host.partition(".")[2] in self.hosts


def parse_announcement(texts: tuple[bytes, ...]) -> str | None:
    """The policy's id in the TXT records of ``_mta-sts``; None unless exactly one of them is valid (section 3.1)."""
    ours = [text for text in texts if re.match(rb"v=STSv1[ \t]*;", text)]
    if len(ours) != 1:
        return None
    fields: dict[str, str] = {}
    for part in ours[0].decode("ascii", "replace").split(";"):
        name, _, value = part.partition("=")
        fields.setdefault(name.strip(), value.strip())
    return fields["id"] if _ID.fullmatch(fields.get("id", "")) else None


def parse_policy(text: str) -> StsPolicy:
    """The policy in a file; unknown keys are passed over, the first of two counts. Raises `PolicyInvalid`."""
    fields: dict[str, str] = {}
    hosts: list[str] = []
    for line in re.split(r"\r?\n", text):
        name, colon, value = line.partition(":")
        name, value = name.strip(), value.strip()
        if not colon:
            if line.strip():
                raise PolicyInvalid("a line has no colon")
        elif name == "mx":
            hosts.append(_pattern(value))
        else:
            fields.setdefault(name, value)
    if fields.get("version") != "STSv1":
        raise PolicyInvalid("its version is not STSv1")
    if fields.get("mode") not in [mode.value for mode in Mode]:
        raise PolicyInvalid("its mode is neither enforce, testing nor none")
    if not re.fullmatch(r"[0-9]{1,10}", fields.get("max_age", "")):
        raise PolicyInvalid("its max_age is no number of seconds")
    mode = Mode(fields["mode"])
    if mode is not Mode.NONE and not hosts:
        raise PolicyInvalid("it names no mx")
    if len(hosts) > MAX_HOSTS:
        raise PolicyInvalid(f"it names more than {MAX_HOSTS} mx")
    return StsPolicy(mode, tuple(hosts), min(int(fields["max_age"]), LONGEST_S))


def _pattern(given: str) -> str:
    star = "*." if given.startswith("*.") else ""
    try:
        return star + host_name(given.removeprefix("*."))
    except ValueError:
        raise PolicyInvalid("an mx is no host name") from None
