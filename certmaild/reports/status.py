"""The part of a report that programs read: message/delivery-status (RFC 3464, RFC 6533)."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from certmaild.outbound.interfaces import News, Occasion
from certmaild.outbound.values import Problem, Recipient
from certmaild.protocols.smtp.grammar import Path
from certmaild.protocols.smtp.xtext import decode_unicode, decode_xtext
from certmaild.reports.links import without_links
from certmaild.reports.texts import Texts
from certmaild.reports.words import format_time

FOLD = 200
"""Characters of a line, at most four octets each."""
_ACTION = {
    Occasion.FAILED: "failed",
    Occasion.DELAYED: "delayed",
    Occasion.WARNED: "delayed",
    Occasion.RELAYED: "relayed",
    Occasion.DELIVERED: "delivered",
}
_ENHANCED = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")


def format_status(
    news: Sequence[News], *, hostname: str, accepted_s: int, envid: bytes | None, utf8: bool, texts: Texts
) -> bytes:
    """The fields, in CRLF lines: a block for the message and one for each recipient.

    ``utf8``: as message/global-delivery-status, where addresses of other letters stand as they are. ``envid`` is
    xtext, as it was given.
    """
    blocks = [list(_of_message(hostname, accepted_s, envid))]
    blocks += [list(_of_recipient(one, utf8, texts)) for one in news]
    text = "\r\n\r\n".join("\r\n".join(block) for block in blocks) + "\r\n"
    return text.encode("utf-8" if utf8 else "ascii", "replace")


def needs_utf8(news: Sequence[News]) -> bool:
    """Whether an address of theirs is not ASCII."""
    return not all(str(one.recipient.path).isascii() for one in news)


def _of_message(hostname: str, accepted_s: int, envid: bytes | None) -> Iterator[str]:
    if envid is not None:
        yield f"Original-Envelope-Id: {decode_xtext(envid).decode('ascii', 'replace')}"
    yield f"Reporting-MTA: dns; {hostname}"
    yield f"Arrival-Date: {format_time(accepted_s)}"


def _of_recipient(one: News, utf8: bool, texts: Texts) -> Iterator[str]:
    recipient, fate = one.recipient, one.fate
    if recipient.orcpt is not None:
        yield f"Original-Recipient: {_original(recipient, recipient.orcpt, utf8)}"
    yield f"Final-Recipient: {_address(recipient.path)}"
    yield f"Action: {_ACTION[one.occasion]}"
    yield f"Status: {_status(one)}"
    if fate.host:
        yield f"Remote-MTA: dns; {_server(without_links(fate.host, texts.link_left_out))}"
    if fate.reply:
        reply = without_links(fate.reply, texts.link_left_out)
        reply = reply if utf8 else reply.encode("ascii", "replace").decode("ascii")
        # Folded: a reply may be longer than a line may be (RFC 5322 section 2.1.1).
        yield "\r\n ".join(textwrap.wrap(f"Diagnostic-Code: smtp; {reply}", FOLD, break_on_hyphens=False))
    if one.last_try_s is not None:
        yield f"Last-Attempt-Date: {format_time(one.last_try_s)}"
    if one.until_s is not None:
        yield f"Will-Retry-Until: {format_time(one.until_s)}"


def _server(host: str) -> str:
    """A name, or an address as a literal."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return f"[{address}]" if address.version == 4 else f"[IPv6:{address}]"


def _status(one: News) -> str:
    if not isinstance(one.fate, Problem):
        return "2.0.0" if one.occasion is Occasion.RELAYED else "2.1.5"
    enhanced = one.fate.enhanced
    if _ENHANCED.fullmatch(enhanced):
        return enhanced
    return "5.0.0" if one.fate.permanent else "4.0.0"


def _address(path: Path) -> str:
    return f"{'rfc822' if str(path).isascii() else 'utf-8'}; {path}"


def _original(recipient: Recipient, orcpt: bytes, utf8: bool) -> str:
    """Type and address as the sender's ORCPT gave them."""
    kind, _, value = orcpt.partition(b";")
    if kind.lower() == b"utf-8":
        address = value.decode("utf-8", "replace")
        # In a report that is ASCII the address keeps the form that is.
        address = decode_unicode(address) if utf8 else address
    else:
        address = decode_xtext(value).decode("utf-8", "replace")
    return f"{kind.decode('ascii')}; {''.join(char if char.isprintable() else '?' for char in address)}"
