"""Body hashes as the body streams by, in constant memory and time linear in it (RFC 6376 section 3.4.3, 3.4.4)."""

import hashlib

_CRLF = b"\r\n"


class BodyHash:
    """SHA-256 of one body in one canonical form. ``digest`` and ``length`` may be asked once all was fed.

    Empty lines at the end of the body do not count, and which are the last ones is known only at its end: so the state
    of the hash is copied after the last octet that is not part of an empty line.
    """

    def __init__(self, *, relaxed: bool) -> None:
        self._relaxed = relaxed
        self._running = hashlib.sha256()
        self._running_octets = 0
        self._solid = self._running.copy()
        self._solid_octets = 0
        self._held = b""
        """What may change its meaning by what follows: a CR, and in the relaxed form one space before it."""

    def feed(self, body: bytes) -> None:
        """The next piece, of any size."""
        body = self._held + body
        end = len(body) - body.endswith(b"\r")
        if self._relaxed:
            end = len(body[:end].rstrip(b" \t"))
        self._held, body = body[end:], body[:end]
        if self._relaxed:
            # The rest of a run of white space stands for the whole of it.
            self._held = _squeezed(self._held)
            body = _squeezed(body).replace(b" \r\n", _CRLF)
        self._take(body)

    def finish(self) -> None:
        """The body is over."""
        held, self._held = self._held, b""
        self._take(held)

    @property
    def digest(self) -> bytes:
        """The value of ``bh=``."""
        if not self._has_line:
            return self._solid.digest()
        whole = self._solid.copy()
        whole.update(_CRLF)
        return whole.digest()

    @property
    def length(self) -> int:
        """Octets of the canonical body: what ``l=`` may be at most."""
        return self._solid_octets + len(_CRLF) * self._has_line

    @property
    def _has_line(self) -> bool:
        """An empty body is one empty line in the simple form, and nothing in the relaxed one."""
        return self._solid_octets > 0 or not self._relaxed

    def _take(self, canonical: bytes) -> None:
        solid = _solid_part(canonical)
        if solid:
            self._running.update(canonical[:solid])
            self._solid = self._running.copy()
            self._solid_octets = self._running_octets + solid
        if solid < len(canonical):
            self._running.update(canonical[solid:])
        self._running_octets += len(canonical)


def _squeezed(text: bytes) -> bytes:
    """Runs of white space made single spaces. Linear: each round halves the longest run."""
    text = text.replace(b"\t", b" ")
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    return text


def _solid_part(text: bytes) -> int:
    """How many octets stand before the line ends at the end of ``text``."""
    end = len(text.rstrip(_CRLF))
    if text.count(_CRLF, end) * 2 == len(text) - end:
        return end
    # A CR or LF stands alone among them.
    end = len(text)
    while text.endswith(_CRLF, 0, end):
        end -= 2
    return end
