"""Sentences to people who write to status@. No URI stands in any of them (PRODUCT section 1)."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from certmaild.mailbox.layout_guests import AuditRow
from certmaild.mailbox.layout_queue import TaskState
from certmaild.mailbox.values import Quota
from certmaild.outbound.orders import CopyView, MessageView
from certmaild.outbound.values import Delivered, Problem
from certmaild.reports.links import without_links
from certmaild.reports.texts import ENGLISH
from certmaild.services.texts import paragraphs

_STATES = {
    TaskState.READY: "is sent as soon as may be",
    TaskState.WAITING: "waits for its next try",
    TaskState.HELD: "is held by the administrator",
    TaskState.DELIVERED: "was taken by the next server",
    TaskState.FAILED: "has failed",
    TaskState.DROPPED: "was dropped by the administrator",
}
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))

NO_AUDITOR = paragraphs(
    "Nothing is shown: the audit log is for accounts with the role auditor or admin. Ask the administrator of this "
    "server for it.",
)


def overview(
    address: str, quota: Quota, devices: Sequence[str], waiting: Sequence[MessageView], now: int, *, is_all: bool
) -> str:
    """How a mailbox stands. ``is_all``: nothing else of his waits to be sent."""
    return paragraphs(
        f"This is how {address} stands.",
        _use(quota),
        f"Devices: {', '.join(devices)}." if devices else "There are no devices.",
        _count(len(waiting)) if is_all else f"{_count(len(waiting))} There may be more: not all were looked at.",
        *(_message(one, now) for one in waiting),
        "To ask for one message, name its id, or forward what you were told of it.",
    )


def messages_named(found: Sequence[MessageView], now: int) -> str:
    """The messages that were asked for."""
    if not found:
        return paragraphs(
            "No message of yours has an id that you named, or it was done more than three days ago. The id is the "
            "twelve digits and letters that your mail program was told when it sent the message; reports name it too."
        )
    return paragraphs(*(_message(one, now) for one in found))


def audit(rows: Sequence[tuple[int, AuditRow]], wanted: int, known: int, *, is_whole: bool) -> str:
    """Rows of the audit log, the latest last."""
    broken = f"The audit log is broken behind row {known}: a row was changed or taken out. Tell the administrator."
    return paragraphs(
        "" if is_whole else broken,
        f"Of {wanted} rows in the audit log the last {len(rows)}:" if rows else "No row of the audit log is about it.",
        "\n".join(_row(number, row) for number, row in rows),
    )


def _row(number: int, row: AuditRow) -> str:
    detail = f" ({row.detail})" if row.detail else ""
    return f"  {number} {_moment(row.at_s)} {row.by}: {row.act} {row.whom}{detail}"


def _use(quota: Quota) -> str:
    octets = f" of {_octets(quota.octets_limit)}" if quota.octets_limit is not None else ""
    messages = f" of {quota.messages_limit}" if quota.messages_limit is not None else ""
    return f"In use: {_octets(quota.octets)}{octets}, messages: {quota.messages}{messages}."


def _octets(number: int) -> str:
    for unit, name in _UNITS:
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number} octets"


def _count(number: int) -> str:
    if not number:
        return "Nothing of yours waits to be sent to other servers."
    return f"{number} of your messages {'waits' if number == 1 else 'wait'} to be sent to other servers:"


def _message(view: MessageView, now: int) -> str:
    lines = [f"  Message {view.queue_id}, accepted {_moment(view.accepted_s)}"]
    for one in view.copies:
        lines += [f"    to {without_links(str(one.recipient.path), ENGLISH.link_left_out)}"]
        lines += [f"      {line}" for line in _copy(one, now)]
    return "\n".join(lines)


def _copy(one: CopyView, now: int) -> Iterator[str]:
    yield f"it {_STATES[one.state]}"
    if one.next_try_s is not None and one.next_try_s > now:
        yield f"next try at {_moment(one.next_try_s)}"
    if one.attempts:
        yield f"tried {one.attempts} time{'' if one.attempts == 1 else 's'}"
    yield f"route: {one.recipient.route.value}, since {without_links(one.recipient.reason, ENGLISH.link_left_out)}"
    fate = one.fate
    if isinstance(fate, Problem):
        yield f"why: {without_links(fate.words, ENGLISH.link_left_out)}"
    if isinstance(fate, Problem | Delivered) and fate.reply:
        yield f"the other server's answer: {without_links(fate.reply, ENGLISH.link_left_out)}"
    if isinstance(fate, Delivered):
        how = without_links(fate.proof.how, ENGLISH.link_left_out) if fate.proof is not None else "nothing"
        yield f"proven by: {how}"


def _moment(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
