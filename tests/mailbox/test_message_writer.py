"""What IMAP appends, on its way in: a header that is hard to read holds nobody else up."""

from collections.abc import Awaitable, Callable
from typing import Any

from support import memory_engine, run

from certmaild.mailbox.content import MessageWriter
from certmaild.mailbox.mime import Scanner


def test_large_headers_are_parsed_in_a_reader_thread() -> None:
    engine = memory_engine()
    in_threads: list[object] = []
    scan = engine.scan

    def counted(work: Callable[[Any], Any]) -> Awaitable[Any]:
        in_threads.append(work)
        return scan(work)

    engine.scan = counted  # type: ignore[method-assign]

    def threads(content: bytes) -> int:
        in_threads.clear()

        async def work() -> int:
            writer = MessageWriter(engine, lambda: 0.0, Scanner())
            for at in range(0, len(content), 16384):
                await writer.write(content[at : at + 16384])
            blob, found = await writer.finish()
            assert blob.size == found.size == len(content)
            return len(in_threads)

        return run(work())

    large = b"To: " + b",\r\n ".join([b"a@b.example"] * 40_000) + b"\r\n"
    assert threads(b"Subject: x\r\n\r\n" + b"line\r\n" * 20_000) == 0
    assert threads(large + b"\r\nbody\r\n") > 10
    assert threads(large) > 10
