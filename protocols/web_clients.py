"""How a web client gives itself away on a mail port: it was sent here by a trick (ALPACA, KEYS section 19.2)."""

import re

_HTTP = re.compile(
    rb"(?:GET|POST|PUT|HEAD|PATCH|DELETE|OPTIONS|CONNECT|TRACE|PRI) |(?:Host|User-Agent|Accept|Connection|Referer):",
    re.IGNORECASE,
)


def is_http(line: bytes) -> bool:
    """Whether a line begins an HTTP request or is a header field of one: such a connection closes without a word."""
    return _HTTP.match(line) is not None
