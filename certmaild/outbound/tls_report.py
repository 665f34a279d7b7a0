"""TLS reports as they are written: who wants them, the JSON, the message (RFC 8460 sections 3, 4.4 and 5.3)."""

import gzip
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from urllib.parse import unquote

from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.errors import AddressError
from certmaild.mailbox.layout_policies import FailureRow, SessionsRow, TlsDayRow

MAX_ADDRESSES = 5
"""Of one domain."""


@dataclass(frozen=True, slots=True)
class Submitter:
    """Who reports."""

    hostname: str
    domain: str
    """Of the address that the report comes from."""
    contact: str


def parse_report_addresses(texts: tuple[bytes, ...]) -> tuple[str, ...]:
    """Mail addresses in the TXT records of ``_smtp._tls``; none unless exactly one record is valid (section 3).

    Reports are sent by mail only: ``https:`` is passed over.
    """
    ours = [text for text in texts if re.match(rb"v=TLSRPTv1[ \t]*;", text)]
    if len(ours) != 1:
        return ()
    found = []
    for part in ours[0].decode("ascii", "replace").split(";"):
        name, _, value = part.partition("=")
        if name.strip() == "rua":
            found += [one.strip() for one in value.split(",")]
    addresses = []
    for one in found:
        scheme, _, rest = one.partition(":")
        if scheme.lower() == "mailto":
            try:
                addresses.append(canonical(unquote(re.split(r"[?!]", rest)[0])).wire)
            except AddressError:
                continue
    return tuple(dict.fromkeys(addresses))[:MAX_ADDRESSES]


def report_json(row: TlsDayRow, day: int, submitter: Submitter, report_id: str) -> bytes:
    """The report (section 4.4)."""
    begin, end = _day(day)
    return json.dumps(
        {
            "organization-name": submitter.domain,
            "date-range": {"start-datetime": _time(begin), "end-datetime": _time(end)},
            "contact-info": submitter.contact,
            "report-id": report_id,
            "policies": [_policy(row.domain, sessions) for sessions in row.sessions],
        },
        indent=1,
    ).encode("ascii")


def report_letter(row: TlsDayRow, day: int, submitter: Submitter, report_id: str) -> EmailMessage:
    """The message (section 5.3), but for From, To, Date and Message-ID."""
    begin, end = _day(day)
    successful = sum(sessions.successful for sessions in row.sessions)
    failed = sum(sessions.failed for sessions in row.sessions)
    letter = EmailMessage()
    letter["Subject"] = f"Report Domain: {row.domain} Submitter: {submitter.domain} Report-ID: <{report_id}>"
    letter["TLS-Report-Domain"] = row.domain
    letter["TLS-Report-Submitter"] = submitter.domain
    letter["TLS-Required"] = "No"
    letter.set_content(
        f"This is an aggregate TLS report (RFC 8460) from {submitter.hostname}\n"
        f"about mail to {row.domain} on {begin:%Y-%m-%d} (UTC).\n\n"
        f"Connections that proved what your domain asks: {successful}\n"
        f"Connections that did not: {failed}\n\n"
        "The details are in the attached file. Questions go to\n"
        f"{submitter.contact}.\n",
        cte="7bit",
    )
    name = f"{submitter.hostname}!{row.domain}!{int(begin.timestamp())}!{int(end.timestamp())}.json.gz"
    packed = gzip.compress(report_json(row, day, submitter, report_id), mtime=0)
    letter.add_attachment(packed, maintype="application", subtype="tlsrpt+gzip", filename=name)
    letter.set_type("multipart/report")
    letter.set_param("report-type", "tlsrpt")
    return letter


def _day(day: int) -> tuple[datetime, datetime]:
    begin = datetime.fromtimestamp(day * 86_400, UTC)
    return begin, begin + timedelta(seconds=86_399)


def _time(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"


def _policy(domain: str, sessions: SessionsRow) -> dict[str, object]:
    policy: dict[str, object] = {"policy-type": sessions.kind}
    if sessions.policy:
        policy["policy-string"] = list(sessions.policy)
    policy["policy-domain"] = domain
    if sessions.hosts:
        policy["mx-host"] = list(sessions.hosts)
    whole: dict[str, object] = {
        "policy": policy,
        "summary": {
            "total-successful-session-count": sessions.successful,
            "total-failure-session-count": sessions.failed,
        },
    }
    if sessions.failures:
        whole["failure-details"] = [_failure(one) for one in sessions.failures]
    return whole


def _failure(one: FailureRow) -> dict[str, object]:
    given = {
        "result-type": one.result,
        "receiving-mx-hostname": one.host,
        "receiving-ip": one.address,
        "failed-session-count": one.count,
        "failure-reason-code": one.reason,
    }
    return {name: value for name, value in given.items() if value != ""}
