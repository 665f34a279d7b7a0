"""How the queue is shown: in words and tables for people, in JSON for programs."""

from collections.abc import Sequence
from datetime import UTC, datetime

from certmaild.commands.common import octets_text
from certmaild.keystore.tls_values import Proof
from certmaild.mailbox.layout_queue import TaskState
from certmaild.outbound.orders import CopyView, MessageView
from certmaild.outbound.values import Delivered, Problem, Recipient


def row_of(view: MessageView, copies: Sequence[CopyView], now_s: int) -> dict[str, object]:
    """A message as a row of a table."""
    first, more = copies[0], len(copies) - 1
    waiting = next((one for one in copies if one.is_open), first)
    return {
        "id": view.queue_id,
        "age": f"{span_text(now_s - view.accepted_s)} ago",
        "size": octets_text(view.size),
        "sender": sender_text(view),
        "to": printable(str(first.recipient.path)) + (f" and {more} more" if more else ""),
        "state": _state(view, waiting, now_s) + _because(waiting),
    }


def asks(view: MessageView) -> list[str]:
    """What the sender asked for beyond delivery."""
    envelope = view.envelope
    wishes = [f"priority {envelope.priority}"] if envelope.priority else []
    if envelope.require_tls:
        wishes.append("proven TLS all the way (REQUIRETLS)")
    if envelope.tls_optional:
        wishes.append("delivery rather than proof (TLS-Required: No)")
    if envelope.deliver_by_s is not None:
        wishes.append(f"delivery by {time_text(envelope.deliver_by_s)}")
    if envelope.hold_until_s is not None:
        wishes.append(f"nothing before {time_text(envelope.hold_until_s)}")
    return wishes


def details(view: MessageView, one: CopyView, now_s: int) -> list[tuple[str, str]]:
    """One recipient's copy, line by line: what it is about, and the words."""
    lines = [("State", _state(view, one, now_s)), ("Route", f"{one.recipient.route.value}: {one.recipient.reason}")]
    if one.attempts and one.last_try_s is not None:
        lines.append(("Tried", f"{_times(one.attempts)}, last {span_text(now_s - one.last_try_s)} ago"))
    if one.unreached and one.unreached_since_s is not None:
        since = span_text(now_s - one.unreached_since_s)
        lines.append(("Server", f"not reached, or not proven: {_times(one.unreached)} in {since}"))
    if one.doubts:
        lines.append(("Doubt", f"{_times(one.doubts)} a crash left open whether it had arrived: it may be there twice"))
    fate = one.fate
    if isinstance(fate, Problem):
        lines.append(("Why", printable(fate.words)))
        if fate.reply:
            lines.append(("Answer", printable(f"{fate.host}: {fate.reply}" if fate.host else fate.reply)))
    elif isinstance(fate, Delivered):
        lines.append(("Answer", printable(f"{fate.host}: {fate.reply}")))
        lines.append(("Proven", _proof_text(fate.proof)))
    return lines


def _proof_text(proof: Proof | None) -> str:
    if proof is None:
        return "nothing: it went in clear text, as the partner's record allows"
    names = f"; the server is {', '.join(proof.names)}" if proof.names else ""
    chain = f"; chain {proof.chain_sha256.hex()}" if proof.chain_sha256 else ""
    return printable(
        f"{proof.how} (asked by {proof.policy}); {proof.version}, {proof.cipher}, {proof.group}{names}{chain}"
    )


def printable(text: str) -> str:
    """What others wrote, without what a terminal would obey."""
    return "".join(one if one.isprintable() else "?" for one in text)


def is_for(recipient: Recipient, to: str) -> bool:
    """Whether a recipient is ``to``, a domain or an address."""
    wanted = to.lower()
    return wanted in (str(recipient.path).lower(), recipient.path.domain.lower())


def sender_text(view: MessageView) -> str:
    """Whose message it is."""
    own = "(a notice)" if view.envelope.told is not None else "(a report)"
    return printable(str(view.envelope.reverse_path)) or own


def _state(view: MessageView, one: CopyView, now_s: int) -> str:
    match one.state:
        case TaskState.DELIVERED:
            return "delivered"
        case TaskState.FAILED:
            return "failed"
        case TaskState.DROPPED:
            return "dropped"
        case TaskState.HELD:
            return "given up" if isinstance(one.fate, Problem) and one.fate.permanent else "held"
        case TaskState.READY | TaskState.WAITING:
            if one.next_try_s is None:
                return "to be sent now"
            return f"next try in {span_text(one.next_try_s - now_s)}" if one.next_try_s > now_s else "next try now"


def _because(one: CopyView) -> str:
    return f": {printable(one.fate.words)}" if isinstance(one.fate, Problem) else ""


def span_text(seconds: int) -> str:
    """How long, in one unit or two."""
    seconds = max(0, seconds)
    for unit, name, smaller, smaller_name in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= unit:
            rest = seconds % unit // smaller
            return f"{seconds // unit} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{seconds} s"


def time_text(seconds: int) -> str:
    """A moment."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def messages_text(count: int) -> str:
    """So many messages."""
    return "1 message" if count == 1 else f"{count} messages"


def message_json(view: MessageView, copies: Sequence[CopyView]) -> dict[str, object]:
    """A message for programs."""
    envelope = view.envelope
    return {
        "id": view.queue_id,
        "accepted": time_text(view.accepted_s),
        "size": view.size,
        "sender": str(envelope.reverse_path),
        "held": view.is_held,
        "expires": time_text(view.expires_s),
        "priority": envelope.priority,
        "require_tls": envelope.require_tls,
        "envid": None if envelope.envid is None else envelope.envid.decode("ascii", "replace"),
        "recipients": [_copy_json(one) for one in copies],
    }


def _copy_json(one: CopyView) -> dict[str, object]:
    fate = one.fate
    problem = fate if isinstance(fate, Problem) else None
    delivered = fate if isinstance(fate, Delivered) else None
    return {
        "address": str(one.recipient.path),
        "state": one.state.name.lower(),
        "route": one.recipient.route.value,
        "route_reason": one.recipient.reason,
        "destination": one.destination.domain,
        "attempts": one.attempts,
        "last_try": None if one.last_try_s is None else time_text(one.last_try_s),
        "next_try": None if one.next_try_s is None else time_text(one.next_try_s),
        "destination_failures": one.unreached,
        "destination_fails_since": None if one.unreached_since_s is None else time_text(one.unreached_since_s),
        "may_be_doubled": one.doubts,
        "problem": None
        if problem is None
        else {
            "permanent": problem.permanent,
            "code": problem.code,
            "enhanced": problem.enhanced,
            "words": problem.words,
            "host": problem.host,
            "reply": problem.reply,
            "concerns_tls": problem.concerns_tls,
        },
        "delivered": None
        if delivered is None
        else {"host": delivered.host, "reply": delivered.reply, "proof": proof_json(delivered.proof)},
    }


def proof_json(proof: Proof | None) -> dict[str, object] | None:
    """What a connection proved; None in clear text."""
    if proof is None:
        return None
    return {
        "version": proof.version,
        "cipher": proof.cipher,
        "group": proof.group,
        "verified": proof.verified,
        "how": proof.how,
        "policy": proof.policy,
        "names": list(proof.names),
        "chain_sha256": proof.chain_sha256.hex(),
    }
