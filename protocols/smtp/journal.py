"""One line in the log for each message: session, queue id, peer, TLS, size, result, hashed addresses (DESIGN 5)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from twisted.logger import Logger

from certmaild.protocols.smtp.interfaces import TlsFacts
from certmaild.protocols.transport import Clock

log = Logger()

MAX_RECIPIENTS = 50
"""Recipients that a line names."""
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of one message."""

    session: str
    queue_id: str
    """``-`` for one that was not taken."""
    peer: str
    tls: TlsFacts | None
    octets: int
    result: str
    """``accepted``, or code and enhanced code of the refusal."""
    sender: str = field(repr=False)
    recipients: tuple[str, ...] = field(repr=False)
    """Clear here, hashed in the log."""


class Journal:
    """Writes entries when the reactor has done what it is at: several in a row take far less time each.

    ``hash_address`` turns an address, in lower case, into what the log may show.
    """

    def __init__(self, clock: Clock, hash_address: Callable[[str], str]) -> None:
        self._clock = clock
        self._hash = lru_cache(maxsize=_REMEMBERED)(hash_address)
        self._entries: list[Entry] = []

    def note(self, entry: Entry) -> None:
        """Write one, soon."""
        if not self._entries:
            self._clock.callLater(0, self._write_all)
        self._entries.append(entry)

    def _write_all(self) -> None:
        entries, self._entries = self._entries, []
        for entry in entries:
            self._write(entry)

    def _write(self, entry: Entry) -> None:
        """Formatted here, since Twisted's formatter takes longer than an AEAD."""
        tls = entry.tls.version if entry.tls is not None else "clear"
        sender = self._hash(entry.sender.lower()) if entry.sender else "-"
        recipients = " ".join([self._hash(recipient.lower()) for recipient in entry.recipients[:MAX_RECIPIENTS]])
        line = (
            f"message {entry.queue_id} from {entry.peer} ({tls}): {entry.octets} octets, {entry.result}; "
            f"session {entry.session}, sender {sender}, recipients {recipients}"
        )
        log.info(
            "{line}",
            line=line,
            session=entry.session,
            queue_id=entry.queue_id,
            peer=entry.peer,
            tls=tls,
            group=entry.tls.group if entry.tls is not None else "",
            size=entry.octets,
            result=entry.result,
            sender=sender,
            recipients=recipients,
        )
