"""One connection's one request: reads it within its limits, and says what is answered."""

from certmaild.protocols.web.grammar import END_OF_HEAD, MAX_HEAD, Refused, Request, Status, format_response, parse_head
from certmaild.protocols.web.interfaces import Shelf

MAX_AGE_S = 300
"""How long a file may be kept by who fetched it: after a change of the settings nobody is long misled."""


class Session:
    """Sans-I/O. What comes behind the request is not looked at: there is no second one."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._head = b""
        self._request: Request | None = None
        self._left = 0
        self.is_answered = False

    def receive_data(self, data: bytes, *, now_s: float) -> bytes | None:
        """Take octets; the whole response once the request is complete or is refused, and None before."""
        if self.is_answered:
            return None
        try:
            response = self._take(data, now_s)
        except Refused as refused:
            response = _refusal(refused.status, now_s)
        self.is_answered = response is not None
        return response

    def _take(self, data: bytes, now_s: float) -> bytes | None:
        if self._request is None:
            self._head += data
            end = self._head.find(END_OF_HEAD)
            length = len(self._head) if end < 0 else end + len(END_OF_HEAD)
            if length > MAX_HEAD:
                raise Refused(Status.HEADER_TOO_LARGE)
            if end < 0:
                return None
            self._request = parse_head(self._head[:length])
            self._left = 0 if self._request.expects else self._request.length
            data, self._head = self._head[length:], b""
        self._left -= len(data)
        return self._answer(self._request, now_s) if self._left <= 0 else None

    def _answer(self, request: Request, now_s: float) -> bytes:
        page = self._shelf.find(request.host, request.path)
        if page is None:
            return _refusal(Status.NOT_FOUND, now_s, with_content=request.method != "HEAD")
        allowed = ("GET", "HEAD", "POST") if page.takes_post else ("GET", "HEAD")
        if request.method not in allowed:
            return _refusal(Status.METHOD_NOT_ALLOWED, now_s, allow=", ".join(allowed))
        return format_response(
            Status.OK,
            page.octets,
            now_s=now_s,
            content_type=page.content_type,
            max_age_s=0 if request.method == "POST" else MAX_AGE_S,
            with_content=request.method != "HEAD",
        )


def _refusal(status: Status, now_s: float, *, allow: str = "", with_content: bool = True) -> bytes:
    content = f"{status.phrase}\r\n".encode("ascii")
    return format_response(status, content, now_s=now_s, allow=allow, with_content=with_content)
