"""Authentication-Results: what was found, for the recipient's client (RFC 8601)."""

import re
from collections.abc import Sequence

from certmaild.inbound.partner_gate import PartnerProof
from certmaild.inbound.verdicts import ArcResult, DkimResult, DmarcResult, Result, SpfResult

_TOKEN = re.compile(r"[A-Za-z0-9._+/=@-]{1,255}")
_NOT_IN_COMMENT = re.compile(r"[^A-Za-z0-9 .,:=_/-]")


def format_results(authserv_id: str, entries: Sequence[str]) -> bytes:
    """The field, complete lines; ``none`` where nothing was checked."""
    said = ";\r\n\t".join(entries or ["none"])
    return f"Authentication-Results: {authserv_id};\r\n\t{said}\r\n".encode()


def spf_entry(found: SpfResult) -> str:
    """RFC 8601 section 2.7.2."""
    return _entry("spf", found.result, "", ("smtp.helo" if found.is_helo else "smtp.mailfrom", found.domain))


def dkim_entries(found: Sequence[DkimResult]) -> list[str]:
    """RFC 8601 section 2.7.1."""
    if not found:
        return ["dkim=none"]
    return [
        _entry(
            "dkim",
            one.result,
            one.reason,
            ("header.d", one.domain),
            ("header.s", one.selector),
            ("header.b", one.signature),
        )
        for one in found
    ]


def arc_entry(found: ArcResult) -> str:
    """RFC 8617 section 10.2; the last sealer's domain as a comment."""
    comment = found.reason or (f"sealed by {found.sealer}" if found.sealer else "")
    return _entry("arc", found.result, comment)


def dmarc_entry(found: DmarcResult) -> str:
    """RFC 7489 section 11.2, with the policy as a comment."""
    comment = "" if found.result in (Result.NONE, Result.PERMERROR) else f"p={found.policy.value}"
    return _entry("dmarc", found.result, found.reason or comment, ("header.from", found.domain))


def partner_entry(found: PartnerProof) -> str:
    """What TLS proved of a partner: no registered method says it, hence ``x-``."""
    return _entry("x-partner", Result.PASS, found.how, ("policy.partner", found.domain))


def _entry(method: str, result: Result, comment: str, *properties: tuple[str, str]) -> str:
    """One method's result. What strangers wrote stands there only if it is a plain word."""
    said = f" ({_NOT_IN_COMMENT.sub('', comment)})" if comment else ""
    named = "".join(_property(name, value) for name, value in properties if _TOKEN.fullmatch(value))
    return f"{method}={result.value}{said}{named}"


def _property(name: str, value: str) -> str:
    # A property's value is a token or a quoted string (RFC 8601 section 2.2); / and = are in no token.
    return f' {name}="{value}"' if "/" in value or "=" in value else f" {name}={value}"
