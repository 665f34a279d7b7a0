"""What checks of one message find, as Authentication-Results names it (RFC 8601 section 2.7)."""

from dataclasses import dataclass
from enum import Enum


class Result(Enum):
    """How a check ended. Not every check knows every one."""

    NONE = "none"
    PASS = "pass"  # noqa: S105  # no password
    FAIL = "fail"
    SOFTFAIL = "softfail"
    NEUTRAL = "neutral"
    POLICY = "policy"
    """It holds, and does not count here."""
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


@dataclass(frozen=True, slots=True)
class SpfResult:
    """Whether the peer may send for a domain (RFC 7208)."""

    result: Result
    domain: str = ""
    """Lower-case A-labels."""
    is_helo: bool = False
    """The domain is HELO's, since the reverse-path is null."""


@dataclass(frozen=True, slots=True)
class DkimResult:
    """One signature."""

    result: Result
    reason: str = ""
    domain: str = ""
    """``d=``, lower case."""
    selector: str = ""
    signature: str = ""
    """The first eight characters of ``b=`` (RFC 6008)."""


@dataclass(frozen=True, slots=True)
class ArcResult:
    """The chain of those who passed the message on (RFC 8617)."""

    result: Result
    reason: str = ""
    sealer: str = ""
    """The domain that sealed last."""
    sealed_results: bytes = b""
    """What that one says of the message as it got it: the value of his ARC-Authentication-Results."""


class Policy(Enum):
    """What a domain asks to be done with mail that fails DMARC."""

    NONE = "none"
    QUARANTINE = "quarantine"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class DmarcResult:
    """Whether the domain of From vouches for the message."""

    result: Result
    domain: str = ""
    """Of From."""
    policy: Policy = Policy.NONE
    """What is asked for, in test mode too."""
    is_test: bool = False
    """The domain asks that its policy not be carried out yet."""
    reason: str = ""
