"""The mail data of one message on its way in (RFC 5321 section 3.3): counted, and refused at its first fault.

What DATA and BDAT carry is undone by `certmaild.protocols.smtp.content`; what comes of it are events for the server.
"""

from collections.abc import Callable
from typing import Final

from certmaild.protocols.smtp.content import ChunkContent, DataContent
from certmaild.protocols.smtp.errors import Refusal, too_large
from certmaild.protocols.smtp.events import Aborted, Content, Event


class MailData:
    """One message of at most ``size_limit`` octets. Once there is a `refusal` no content is given any more.

    ``give`` takes the events: `Content`, and `Aborted` when the mail data itself is the reason of the refusal.
    """

    def __init__(self, size_limit: int, give: Callable[[Event], None]) -> None:
        self.octets = 0
        """Of content so far, the dots undone."""
        self.refusal: Refusal | None = None
        """Why the message is not taken: found here, or set by who cannot take it."""
        self._size_limit = size_limit
        self._give = give

    def _take(self, content: bytes) -> None:
        self.octets += len(content)
        if self.refusal is None:
            if self.octets > self._size_limit:
                self._refuse(too_large())
            elif content:
                self._give(Content(content))

    def _refuse(self, refusal: Refusal) -> None:
        self.refusal = refusal
        self._give(Aborted(refusal))


class ByData(MailData):
    """As DATA brings it, up to CRLF.CRLF. ``normalise``: as `DataContent` says."""

    def __init__(self, size_limit: int, give: Callable[[Event], None], *, normalise: bool) -> None:
        super().__init__(size_limit, give)
        self._content: Final = DataContent(normalise=normalise)
        self._discarded = 0

    def feed(self, octets: bytes) -> bytes | None:
        """Take what came; what followed the end, or None until the end is seen."""
        content = self._content
        if self.refusal is not None:
            self._discarded += len(octets)
        self._take(content.feed(octets))
        if content.fault is not None and self.refusal is None:
            self._refuse(Refusal(550, "5.6.0", content.fault.value))
        return content.rest

    @property
    def is_endless(self) -> bool:
        """Whether a whole message's octets more came since the refusal: nobody need wait for the end."""
        return self._discarded > self._size_limit


class ByBdat(MailData):
    """As BDAT brings it, chunk by chunk (RFC 3030 section 2)."""

    def __init__(self, size_limit: int, give: Callable[[Event], None]) -> None:
        super().__init__(size_limit, give)
        self.left = 0
        """Octets of the chunk that are still to come."""
        self._is_last = False
        self._content: Final = ChunkContent()

    def has_room(self, octets: int) -> bool:
        """Whether a chunk of so many octets keeps the message within its limit."""
        return self.octets + octets <= self._size_limit

    def begin_chunk(self, octets: int, *, is_last: bool) -> None:
        """A chunk of so many octets comes next."""
        self.left = octets
        self._is_last = is_last

    def feed(self, octets: bytes) -> bytes:
        """Take what belongs to the chunk; what followed it. A fault is found at the end of a chunk."""
        content = self._content
        chunk, rest = octets[: self.left], octets[self.left :]
        self.left -= len(chunk)
        self._take(content.feed(chunk))
        if not self.left:
            if self._is_last:
                self._take(content.finish())
            if content.fault is not None and self.refusal is None:
                self._refuse(Refusal(554, "5.6.0", content.fault.value))
        return rest
