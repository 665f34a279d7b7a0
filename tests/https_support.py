"""Web servers of tests: HTTPS on loopback, each path answered as the test says."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tls_support import Certified

Answering = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class WebServer:
    """What it serves, and what was asked."""

    port: int
    pages: dict[str, "str | Answering"] = field(default_factory=dict)
    """By path: a text (sent as text/plain with 200), or what answers."""
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Server name sent (SNI), path, header fields."""


@contextmanager
def web_server(shown: Certified, *, address: str = "127.0.0.1", port: int = 0) -> Iterator[WebServer]:
    """HTTPS with one certificate; ``port`` 0: a free one."""
    server = WebServer(0)

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fields = {name.lower(): value for name, value in self.headers.items()}
            server.asked.append((getattr(self.connection, "asked_for", ""), self.path, fields))
            page = server.pages.get(self.path)
            if callable(page):
                with suppress(OSError):
                    page(self)
            elif page is None:
                self.send_error(404)
            else:
                send_text(self, page)

        def log_message(self, *_: Any) -> None:
            pass

    class Listening(ThreadingHTTPServer):
        allow_reuse_address = True
        daemon_threads = True

        def get_request(self) -> Any:
            connection, peer = super().get_request()
            connection.settimeout(20)
            return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), peer

        def handle_error(self, *_: Any) -> None:
            pass

    def named(connection: Any, name: str, _: ssl.SSLContext) -> None:
        connection.asked_for = name

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_into(context)
    context.sni_callback = named
    with Listening((address, port), Answers) as listening:
        server.port = listening.server_address[1]
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join(10)


def send_text(answer: BaseHTTPRequestHandler, text: "str | bytes", code: int = 200, **fields: str) -> None:
    """A response; fields with ``_`` for ``-``, ``content_type`` is text/plain unless given."""
    octets = text.encode() if isinstance(text, str) else text
    fields.setdefault("content_type", "text/plain")
    answer.send_response(code)
    for name, value in {**fields, "content_length": str(len(octets))}.items():
        answer.send_header(name.replace("_", "-"), value)
    answer.end_headers()
    answer.wfile.write(octets)
