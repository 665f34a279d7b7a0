"""The part of a report that people read: what happened, to whom, why, and what to do now."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from certmaild.outbound.interfaces import News, Occasion
from certmaild.outbound.values import Delivered, Problem
from certmaild.protocols.smtp.grammar import Path
from certmaild.reports.links import without_links
from certmaild.reports.texts import Advice, Texts

WIDTH = 72
_SEVERITY = (Occasion.FAILED, Occasion.WARNED, Occasion.DELAYED, Occasion.RELAYED, Occasion.DELIVERED)
_BY_SUBJECT = {
    "1.0": Advice.ADDRESS,
    "1.1": Advice.ADDRESS,
    "1.2": Advice.ADDRESS,
    "1.3": Advice.ADDRESS,
    "1.6": Advice.ADDRESS,
    "1.10": Advice.ADDRESS,
    "2.1": Advice.UNREACHED,
    "2.2": Advice.MAILBOX_FULL,
    "2.3": Advice.TOO_LARGE,
    "3.4": Advice.TOO_LARGE,
    "6.7": Advice.NOT_ASCII,
    "7.30": Advice.NEEDS_REQUIRETLS,
}
"""By subject and detail of the enhanced code (RFC 3463)."""


@dataclass(frozen=True, slots=True)
class About:
    """What a report says of the message and its server."""

    hostname: str
    postmaster: str
    accepted_s: int
    subject: str = ""
    """The message's own; empty where it is not repeated."""


def format_time(at_s: int) -> str:
    """A date-time in UTC (RFC 5322 section 3.3)."""
    return format_datetime(datetime.fromtimestamp(at_s, UTC))


def gravest(news: Sequence[News]) -> Occasion:
    """What the subject speaks of."""
    return min((one.occasion for one in news), key=_SEVERITY.index)


def format_subject(news: Sequence[News], texts: Texts) -> str:
    """The report's Subject."""
    addresses = {str(one.recipient.path) for one in news}
    whom = addresses.pop() if len(addresses) == 1 else texts.several.format(count=len(addresses))
    return texts.subject[gravest(news)].format(whom=whom)


def format_words(news: Sequence[News], about: About, texts: Texts) -> str:
    """The text, in lines of at most `WIDTH` columns that end in LF; only an address may make one longer."""
    paragraphs: list[str] = []
    for occasion in _SEVERITY:
        of_this = [one for one in news if one.occasion is occasion]
        if of_this:
            paragraphs.append(_wrap(texts.opening[occasion]))
            paragraphs += _recipients(of_this, texts)
    message = [texts.your_message.format(date=format_time(about.accepted_s))]
    if about.subject:
        message.append(texts.subject_line.format(subject=without_links(about.subject, texts.link_left_out)))
    paragraphs.append("\n".join(_wrap(line) for line in message))
    paragraphs.append(_wrap(texts.closing.format(hostname=about.hostname, postmaster=about.postmaster)))
    return "\n\n".join(paragraphs) + "\n"


def _recipients(news: Sequence[News], texts: Texts) -> Iterator[str]:
    """A paragraph for all who met the same."""
    groups: dict[tuple[str, ...], list[Path]] = {}
    for one in news:
        groups.setdefault(tuple(_sentences(one, texts)), []).append(one.recipient.path)
    for sentences, paths in groups.items():
        to = [texts.to.format(address=path) for path in paths]
        yield "\n".join([*to, *(_wrap(sentence, "  ") for sentence in sentences)])


def _sentences(one: News, texts: Texts) -> Iterator[str]:
    fate = one.fate
    if isinstance(fate, Problem):
        yield texts.happened.format(words=without_links(fate.words, texts.link_left_out))
        if fate.reply:
            host = without_links(fate.host, texts.link_left_out)
            yield texts.answer.format(host=host, reply=without_links(fate.reply, texts.link_left_out))
        if one.attempts > 1:
            yield texts.attempts.format(attempts=one.attempts)
        if one.until_s is not None:
            yield texts.until.format(date=format_time(one.until_s))
        yield texts.advice_title.format(advice=texts.advice[_advice(one.occasion, fate)])
    elif one.occasion is Occasion.DELIVERED:
        yield texts.delivered
        yield texts.why.format(reason=without_links(one.recipient.reason, texts.link_left_out))
    else:
        yield texts.relayed.format(host=without_links(fate.host, texts.link_left_out))
        yield _safety(fate, texts)
        yield texts.why.format(reason=without_links(one.recipient.reason, texts.link_left_out))


def _safety(fate: Delivered, texts: Texts) -> str:
    proof = fate.proof
    if proof is None:
        return texts.in_clear
    text = texts.proven if proof.verified else texts.unverified
    return text.format(version=proof.version, how=without_links(proof.how, texts.link_left_out))


def _advice(occasion: Occasion, problem: Problem) -> Advice:
    if occasion in (Occasion.DELAYED, Occasion.WARNED):
        return Advice.WAIT_UNPROVEN if problem.concerns_tls else Advice.WAIT
    if problem.concerns_tls:
        return Advice.UNPROVEN
    _, _, subject = problem.enhanced.partition(".")
    if subject in _BY_SUBJECT:
        return _BY_SUBJECT[subject]
    if subject.startswith("7."):
        return Advice.REFUSED if problem.reply else Advice.OWN_RULES
    if subject.startswith("4."):
        return Advice.UNREACHED
    return Advice.REFUSED if problem.permanent and problem.reply else Advice.LATER


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
