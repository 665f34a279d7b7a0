"""Frames opened ahead: the right octets in any order of reading, the digest checked, nothing kept after its mailbox."""

import os
from pathlib import Path

import pytest
from mailbox_support import House, make_house
from support import lmdb_engine, run, start
from twisted.internet.defer import gatherResults

from certmaild.mailbox.cards import BlobFacts
from certmaild.mailbox.errors import Damaged, MessageGone
from certmaild.mailbox.frame_streams import FrameStream, FrameStreams
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.layout import FRAME_OCTETS, Table, frame_key

FRAMES = 12
MESSAGE = b"Subject: large\r\n\r\n" + os.urandom((FRAMES - 2) * FRAME_OCTETS + 999).replace(b"\n", b".")


@pytest.fixture
def house(tmp_path: Path):  # type: ignore[no-untyped-def]
    """On LMDB, where the threads are real."""
    engine = lmdb_engine(tmp_path)
    house = make_house(tmp_path, engine)
    house.append(MESSAGE)
    yield house
    run(engine.close())


def facts(house: House) -> BlobFacts:
    (entry,) = house.entries()
    card = run(house.mailbox.card(entry))
    assert card is not None
    return card.blob


def stream(house: House) -> FrameStream:
    return FrameStreams().find(house.engine, house.user_id, facts(house))


async def frames(stream: FrameStream, numbers: "range | list[int]") -> list[bytes]:
    return [await stream.frame(number) for number in numbers]


def expected(blob: BlobFacts) -> list[bytes]:
    later = range(blob.f0_len, len(MESSAGE), FRAME_OCTETS)
    return [MESSAGE[: blob.f0_len], *(MESSAGE[at : at + FRAME_OCTETS] for at in later)]


@pytest.mark.parametrize(
    "numbers",
    [range(FRAMES), range(FRAMES - 1, -1, -1), [0, 1, 2, 9, 3, 4, 5, 6, 0, 1, 2, 3], [5, 6, 7, 6, 7, 8, 8, 11]],
    ids=["in order", "backwards", "to and fro", "from the middle"],
)
def test_frames_are_what_was_written(house: House, numbers: "range | list[int]") -> None:
    reading = stream(house)
    content = expected(reading.blob)
    assert run(frames(reading, numbers)) == [content[number] for number in numbers]


def test_two_readers_share_a_stream(house: House) -> None:
    reading = stream(house)
    content = expected(reading.blob)
    both = gatherResults([start(frames(reading, range(FRAMES))), start(frames(reading, range(2, FRAMES)))])
    assert run(both) == [content, content[2:]]


def test_frames_that_are_gone_end_the_reading(house: House) -> None:
    blob = facts(house)
    run(house.engine.write(lambda txn: txn.delete(Table.BLOB, frame_key(blob.blob_id, 7))))
    reading = FrameStream(house.engine, blob)
    with pytest.raises(MessageGone):
        run(frames(reading, range(FRAMES)))
    assert run(reading.frame(8)) == expected(blob)[8]


def test_another_digest_is_told_before_the_end(house: House) -> None:
    blob = facts(house)
    forged = BlobFacts(blob.cek, blob.blob_id, blob.size, blob.frames, blob.f0_len, bytes(32))
    reading = FrameStream(house.engine, forged)
    with pytest.raises(Damaged, match="digest"):
        run(frames(reading, range(FRAMES)))
    # Pieces from anywhere have no digest to be compared with.
    assert run(FrameStream(house.engine, forged).frame(FRAMES - 1)) == expected(blob)[-1]


def test_streams_are_few_and_go_with_their_mailbox(house: House) -> None:
    streams, blob, user_id = FrameStreams(limit=2), facts(house), house.user_id
    first = streams.find(house.engine, user_id, blob)
    assert streams.find(house.engine, user_id, blob) is first
    other = BlobFacts(bytes(32), blob.blob_id, blob.size, blob.frames, blob.f0_len, blob.sha256)
    second = streams.find(house.engine, user_id, other)
    assert second is not first, "another key is another stream"
    assert streams.find(house.engine, UserId(bytes(16)), other) is not second
    streams.forget(user_id)
    assert streams.find(house.engine, user_id, other) is not second
    streams.find(house.engine, UserId(b"1" * 16), other)
    streams.find(house.engine, UserId(b"2" * 16), other)
    assert len(streams._streams) == 2
