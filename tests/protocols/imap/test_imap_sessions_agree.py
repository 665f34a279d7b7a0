"""Many sessions of one mailbox: whatever they do, what each was told adds up to what is there."""

import re
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from imap_support import MAIL, House, Line

EXISTS = re.compile(rb"\* (\d+) EXISTS")
EXPUNGE = re.compile(rb"\* (\d+) EXPUNGE")
FETCH = re.compile(rb"\* (\d+) FETCH \((?:UID (\d+) )?FLAGS \(([^)]*)\)")


class Client:
    """A client that believes what it is told."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.flags: list[bytes | None] = []
        self.idling = False

    def hear(self, data: bytes) -> bytes:
        for text in data.split(b"\r\n"):
            if found := EXISTS.match(text):
                assert int(found[1]) >= len(self.flags)
                self.flags += [None] * (int(found[1]) - len(self.flags))
            elif found := EXPUNGE.match(text):
                del self.flags[int(found[1]) - 1]
            elif found := FETCH.match(text):
                self.flags[int(found[1]) - 1] = found[3].replace(b" \\Recent", b"").replace(b"\\Recent", b"")
        return data

    def command(self, text: bytes) -> bytes:
        if self.idling:
            self.idling = False
            assert b"OK" in self.hear(self.line.send(b"DONE\r\n"))
        answer = self.hear(self.line.send(b"x " + text + b"\r\n"))
        assert b" BAD " not in answer
        assert b"SERVERBUG" not in answer
        return answer

    def idle(self) -> None:
        if not self.idling:
            self.hear(self.line.send(b"i IDLE\r\n"))
            self.idling = True

    def check(self) -> list[bytes]:
        """What the server says is there is what this client believes, number by number."""
        self.command(b"NOOP")
        believed = list(self.flags)
        self.flags = [None] * len(believed)
        if believed:
            self.command(b"FETCH 1:* (FLAGS)")
        now = [flags for flags in self.flags if flags is not None]
        assert len(now) == len(believed)
        assert all(old is None or old == new for old, new in zip(believed, now, strict=True)), (believed, now)
        return now


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.just(0), st.integers(1, 3)),
        st.tuples(st.sampled_from(["seen", "deleted", "undelete", "keyword"]), st.integers(0, 2), st.integers(1, 8)),
        st.tuples(st.sampled_from(["expunge", "noop", "idle", "search", "check"]), st.integers(0, 2), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(ACTIONS)
def test_sessions_agree(actions: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        house = House(Path(directory))
        house.deliver(*[MAIL] * 3)
        clients = []
        for _ in range(3):
            client = Client(house.log_in())
            client.command(b"SELECT INBOX")
            clients.append(client)
        for action, who, count in actions:
            client = clients[who]
            number = min(count, len(client.flags))
            match action:
                case "deliver":
                    house.deliver(*[MAIL] * count)
                case "idle":
                    client.idle()
                case "check":
                    client.check()
                case "noop" | "expunge":
                    client.command(action.encode())
                case "search":
                    before = len(client.flags)
                    client.command(b"SEARCH ALL")
                    assert len(client.flags) >= before
                case _ if number:
                    flags = {
                        "seen": b"+FLAGS (\\Seen)",
                        "deleted": b"+FLAGS.SILENT (\\Deleted)",
                        "undelete": b"-FLAGS (\\Deleted)",
                        "keyword": b"+FLAGS ($Work)",
                    }[action]
                    before = len(client.flags)
                    client.command(b"STORE %d " % number + flags)
                    assert len(client.flags) >= before
                    if action == "deleted" and client.flags[number - 1] is not None:
                        client.flags[number - 1] = None
            for other in clients:
                other.hear(other.line.take())
        final = [client.check() for client in clients]
        assert final[0] == final[1] == final[2]
