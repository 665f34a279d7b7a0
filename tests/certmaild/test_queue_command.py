"""`certmaild queue` over a real store: words for people, JSON for programs, and orders that count."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_support import Line, make_line
from outbound_support import AWAY, DELIVERED, PROOF, SENDER

from certmaild import config as configuration
from certmaild.mailbox.arrivals import write_arrivals
from certmaild.mailbox.blobs import BlobWriter
from certmaild.mailbox.identifiers import QueueId
from certmaild.mailbox.layout_queue import TaskState
from certmaild.outbound.orders import Orders
from certmaild.outbound.spool import Spool, Submission, encode_fate
from certmaild.outbound.timing import Times
from certmaild.outbound.values import Destination, Envelope, Recipient, RouteKind
from certmaild.protocols.smtp.grammar import Path as MailPath
from certmaild.setup import opened

IDS = ("0000000000a1", "0000000000a2")
TO = ("bob@example.org", "eve@example.net")


@pytest.fixture
def line(tmp_path: Path) -> Line:
    made = make_line(tmp_path)
    for queue_id in IDS:
        in_store(made, lambda store, queue_id=queue_id: file(store, queue_id))
    return made


def in_store(line: Line, work: Any) -> Any:
    with opened(configuration.load(line.config)) as (driver, engine, secrets):
        return driver.run(work((engine, secrets)))


async def file(store: Any, queue_id: str) -> None:
    engine, secrets = store
    content = b"Subject: x\r\n\r\nbody\r\n"
    writer = BlobWriter(engine, time.time)
    writer.write(content)
    blob = await writer.finish()
    recipients = []
    for address in TO:
        path = MailPath(*address.split("@"))
        one = Recipient(path, RouteKind.VERIFIED_TLS, "by default")
        recipients.append((one, Destination(RouteKind.VERIFIED_TLS, path.domain)))
    submission = Submission(queue_id, blob, 14, True, b"", Envelope(SENDER, priority=3), None, recipients)

    def work(txn: Any) -> None:
        write_arrivals(txn, secrets, blob, ())
        Spool(secrets.queue, Times()).enqueue(txn, submission, time.time())

    await engine.write(work)


def settle(line: Line, number: int, **fields: Any) -> None:
    """Change a copy of the first message as the runner would."""

    async def work(store: Any) -> None:
        engine, secrets = store
        queue = Spool(secrets.queue, Times()).queue

        def change(txn: Any) -> None:
            queue_id = QueueId(bytes.fromhex(IDS[0]))
            task = queue.task(txn, queue_id, number)
            assert task is not None
            queue.change_task(txn, queue_id, number, replace(task, **fields), int(time.time()))

        await engine.write(change)

    in_store(line, work)


def states(line: Line, queue_id: str = IDS[0]) -> list[str]:
    return [one["state"] for one in line.json("queue", "show", queue_id)["recipients"]]


def test_an_empty_queue_says_so(tmp_path: Path) -> None:
    line = make_line(tmp_path)
    assert line.run("queue", "list").stdout == "The queue is empty.\n"
    assert line.json("queue", "list") == []


def test_the_list_says_who_where_and_why(line: Line) -> None:
    now = int(time.time())
    settle(line, 0, state=TaskState.WAITING, attempts=2, last_s=now, next_s=now + 3600, fate=encode_fate(AWAY))
    table = line.run("queue", "list").stdout
    assert "bob@example.org and 1 more" in table
    assert "ann@example.com" in table
    assert "next try in" in table
    assert AWAY.words in table
    assert "to be sent now" in table
    listed = line.json("queue", "list")
    assert [one["id"] for one in listed] == list(IDS)
    problem = listed[0]["recipients"][0]["problem"]
    assert (problem["code"], problem["enhanced"], problem["permanent"]) == (AWAY.code, AWAY.enhanced, False)


def test_the_list_can_be_cut_and_chosen_from(line: Line) -> None:
    assert len(line.json("queue", "list", "--to", "example.net")) == 2
    assert [one["address"] for one in line.json("queue", "list", "--to", "EVE@example.net")[0]["recipients"]] == [
        "eve@example.net"
    ]
    assert line.json("queue", "list", "--to", "nowhere.example") == []
    result = line.run("queue", "list", "--limit", "1")
    assert "1 more" in result.stderr


def test_one_message_shows_what_was_proven(line: Line) -> None:
    settle(line, 0, state=TaskState.DELIVERED, attempts=1, last_s=int(time.time()), fate=encode_fate(DELIVERED))
    text = line.run("queue", "show", IDS[0]).stdout
    for words in (DELIVERED.host, DELIVERED.reply, PROOF.how, PROOF.version, PROOF.group, "priority 3", "delivered"):
        assert words in text
    proof = line.json("queue", "show", IDS[0])["recipients"][0]["delivered"]["proof"]
    assert (proof["version"], proof["verified"], proof["policy"]) == (PROOF.version, True, PROOF.policy)


def test_what_others_wrote_cannot_command_the_terminal(line: Line) -> None:
    nasty = replace(AWAY, reply="450 \x1b[2J\x9b1m gone", words="He said \x1b]0;x\x07.")
    settle(line, 0, fate=encode_fate(nasty), state=TaskState.WAITING, next_s=1)
    for words in (("show", IDS[0]), ("list",)):
        text = line.run("queue", *words).stdout
        assert "He said" in text
        assert not any(one in text for one in "\x1b\x9b\x07")


def test_orders_by_id_by_destination_and_for_all(line: Line) -> None:
    line.run("queue", "hold", IDS[0])
    assert states(line) == ["held", "held"]
    assert "held" in line.run("queue", "list").stdout
    assert "1 message is held" in line.run("queue", "hold", "--all").stdout
    assert "certmaild queue list --done says" in line.run("queue", "hold", "--all", status=1).stderr
    assert f"certmaild queue show {IDS[0]} says" in line.run("queue", "hold", IDS[0], status=1).stderr
    line.run("queue", "release", "--to", "example.net")
    assert states(line) == ["ready", "ready"]
    assert "2 messages are held" in line.run("queue", "hold", "--all").stdout
    assert "2 messages are released" in line.run("queue", "release", "--all").stdout
    settle(line, 1, state=TaskState.WAITING, next_s=int(time.time()) + 999)
    assert "1 message is tried at once" in line.run("queue", "retry", "--all").stdout
    assert states(line) == ["ready", "ready"]


def test_a_drop_needs_a_reason_and_is_reported_or_not(line: Line) -> None:
    line.run("queue", "drop", IDS[0], status=2)
    assert "not told" in line.run("queue", "drop", IDS[0], "--reason", "spam", "--silent", "--to", TO[0]).stdout
    assert states(line) == ["dropped", "ready"]
    assert "reports it" in line.run("queue", "drop", IDS[0], "--reason", "spam").stdout
    assert "given up" in line.run("queue", "show", IDS[0]).stdout
    assert "spam" in line.run("queue", "show", IDS[0]).stdout
    again = line.run("queue", "drop", IDS[0], "--reason", "spam", "--to", TO[0], status=1)
    assert f"Nobody at {TO[0]} waits" in again.stderr and f"queue show {IDS[0]}" in again.stderr


def test_many_are_dropped_by_where_they_go(line: Line) -> None:
    line.run("queue", "drop", "--reason", "a virus", status=2)
    dropped = line.run("queue", "drop", "--to", "example.net", "--reason", "a virus", "--silent").stdout
    assert "Dropped for 2 recipients" in dropped
    assert states(line)[1] == "dropped"
    nobody = line.run("queue", "drop", "--to", "example.net", "--reason", "a virus", status=1)
    assert "Nobody at example.net waits" in nobody.stderr and "queue list --done" in nobody.stderr


def test_a_destination_that_is_not_reached_is_counted(line: Line) -> None:
    async def work(store: Any) -> None:
        engine, secrets = store
        queue = Spool(secrets.queue, Times()).queue
        now = int(time.time())

        def fail(txn: Any) -> None:
            task = queue.task(txn, QueueId(bytes.fromhex(IDS[0])), 0)
            lane = queue.lane(txn, task.lane_id)
            problem = encode_fate(AWAY)
            queue.put_lane(
                txn, task.lane_id, replace(lane, due_s=now + 60, failures=3, since_s=now - 90, problem=problem)
            )

        await engine.write(fail)

    in_store(line, work)
    assert "not reached, or not proven: 3 times in 1 min 3" in line.run("queue", "show", IDS[0]).stdout
    shown = line.json("queue", "show", IDS[0])["recipients"][0]
    assert (shown["attempts"], shown["destination_failures"]) == (0, 3)


@pytest.mark.parametrize("words", [("retry",), ("retry", "--all", IDS[0]), ("hold", "xyz"), ("show", "12")])
def test_unclear_orders_are_refused(line: Line, words: tuple[str, ...]) -> None:
    line.run("queue", *words, status=2)


def test_an_unknown_message_is_named(line: Line) -> None:
    for words in (("show",), ("retry",), ("drop", "--reason", "x")):
        assert "0000000000ff" in line.run("queue", *words, "0000000000ff", status=1).stderr


def test_it_works_beside_an_open_store(line: Line) -> None:
    with opened(configuration.load(line.config)) as (driver, engine, secrets):
        assert "1 message is held" in line.run_apart("queue", "hold", IDS[0])
        orders = Orders(Spool(secrets.queue, Times()))

        async def held() -> bool:
            view = await engine.read(lambda txn: orders.view(txn, QueueId(bytes.fromhex(IDS[0]))))
            return view is not None and view.is_held

        assert driver.run(held())
