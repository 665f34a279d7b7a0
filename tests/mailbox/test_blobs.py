"""Content as frames: any chunking, flat memory, every changed byte refused."""

import hashlib
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import lmdb_engine, memory_engine, run

from certmaild.keystore.primitives import seal_frame
from certmaild.mailbox.blobs import STAGE_OCTETS, BlobWriter, StoredBlob, frame_at, read_facts, read_frame, read_frames
from certmaild.mailbox.errors import Damaged, MessageGone, StoreFull, StoreUnavailable
from certmaild.mailbox.interfaces import Engine
from certmaild.mailbox.layout import (
    FRAME_OCTETS,
    WHOLE_OCTETS,
    Table,
    frame_context,
    frame_key,
    padme,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["memory", "lmdb"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    engine: Any = memory_engine() if request.param == "memory" else lmdb_engine(tmp_path)
    yield engine
    run(engine.close())


def noise(octets: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(octets)


async def store(engine: Engine, content: bytes, chunk: int = 50_000, **settings: Any) -> StoredBlob:
    writer = BlobWriter(engine, lambda: 1000.0, **settings)
    for at in range(0, len(content), chunk):
        pause = writer.write(content[at : at + chunk])
        if pause is not None:
            await pause
    blob = await writer.finish()
    await engine.write(blob.write)
    return blob


async def load(engine: Engine, blob: StoredBlob, first: int = 0) -> bytes:
    return b"".join([frame async for frame in read_frames(engine, blob, first)])


def rows(engine: Engine, table: Table) -> dict[bytes, bytes]:
    return dict(run(engine.read(lambda txn: list(txn.scan(table, b"")))))


HEADER = b"Subject: x\r\n" * 9 + b"\r\n"


@pytest.mark.parametrize(
    ("content", "frames", "f0_len"),
    [
        (b"", 1, 0),
        (b"x", 1, 1),
        (HEADER, 1, len(HEADER)),
        (HEADER.ljust(WHOLE_OCTETS, b"b"), 1, WHOLE_OCTETS),
        (HEADER.ljust(WHOLE_OCTETS + 1, b"b"), 2, len(HEADER)),
        (HEADER + bytes(FRAME_OCTETS), 2, len(HEADER)),
        (HEADER + bytes(FRAME_OCTETS + 1), 3, len(HEADER)),
        (HEADER + bytes(2 * FRAME_OCTETS), 3, len(HEADER)),
        (b"\r\n" + bytes(WHOLE_OCTETS), 2, 2),
        (bytes(WHOLE_OCTETS + 1), 1, WHOLE_OCTETS + 1),
        (bytes(FRAME_OCTETS), 1, FRAME_OCTETS),
        (bytes(FRAME_OCTETS + 1), 2, FRAME_OCTETS),
        (bytes(70_000) + b"\r\n\r\n", 1, 70_004),
        (bytes(70_000) + b"\r\n\r\nb", 2, 70_004),
    ],
)
@pytest.mark.parametrize("chunk", [999_999, 4096, 65_537])
def test_frames_are_cut_by_the_header_and_by_256_kib(
    engine: Engine, content: bytes, frames: int, f0_len: int, chunk: int
) -> None:
    blob = run(store(engine, content, chunk))
    assert (blob.frames, blob.f0_len, blob.size) == (frames, f0_len, len(content))
    assert blob.sha256 == hashlib.sha256(content).digest()
    assert run(load(engine, blob)) == content
    assert len(rows(engine, Table.BLOB)) == frames
    for offset in {0, f0_len - 1, f0_len, len(content) - 1} & set(range(len(content))):
        frame, begins = frame_at(blob, offset)
        assert run(read_frame(engine, blob, frame))[offset - begins] == content[offset]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 700_000), st.lists(st.integers(1, 300_000), min_size=1, max_size=8), st.integers(0, 300_000))
def test_chunking_does_not_show(size: int, chunks: list[int], header: int) -> None:
    engine = memory_engine()
    body = noise(size)
    content = b"h" * header + b"\r\n\r\n" + body

    async def work() -> tuple[StoredBlob, StoredBlob]:
        whole = await store(engine, content, len(content))
        writer = BlobWriter(engine, lambda: 0)
        at = n = 0
        while at < len(content):
            step = chunks[n % len(chunks)]
            pause = writer.write(memoryview(content)[at : at + step])
            assert pause is None
            at, n = at + step, n + 1
        cut = await writer.finish()
        await engine.write(cut.write)
        return whole, cut

    whole, cut = run(work())
    assert (whole.frames, whole.f0_len, whole.size, whole.sha256) == (cut.frames, cut.f0_len, cut.size, cut.sha256)
    assert run(load(engine, cut)) == run(load(engine, whole)) == content


def test_the_scanner_may_say_where_the_header_ends(engine: Engine) -> None:
    writer = BlobWriter(engine, lambda: 0)
    writer.set_header_octets(123)
    writer.write(bytes(WHOLE_OCTETS + 1))
    assert run(writer.finish()).f0_len == 123


def test_padding_hides_the_length_and_can_be_off() -> None:
    assert [padme(n) for n in (0, 1, 2, 9, 100, 1000, 262144, 262145)] == [0, 1, 2, 10, 104, 1024, 262144, 270336]
    assert all(n <= padme(n) <= n * 1.12 + 1 for n in range(1, 5000))
    engine = memory_engine()
    sizes = {len(run(store(engine, noise(10_000 + n))).rows[0][1]) for n in range(60)}
    assert len(sizes) == 1
    assert len(run(store(engine, noise(10_000), padding=False)).rows[0][1]) < sizes.pop()


def test_text_is_compressed_and_noise_is_not(engine: Engine) -> None:
    assert len(run(store(engine, b"Dear all, " * 5000)).rows[0][1]) < 1000
    assert len(run(store(engine, noise(50_000))).rows[0][1]) < 54_000


def test_facts_have_a_frame_of_their_own(engine: Engine) -> None:
    async def work() -> StoredBlob:
        writer = BlobWriter(engine, lambda: 0)
        writer.write(HEADER)
        blob = await writer.finish()
        assert blob.with_facts(b"") is blob
        blob = blob.with_facts(b"facts" * 5000)
        await engine.write(blob.write)
        return blob

    blob = run(work())
    assert run(read_facts(engine, blob, 25_000)) == b"facts" * 5000
    assert run(load(engine, blob)) == HEADER
    for octets in (24_999, 25_001, 0, 1 << 40):
        with pytest.raises(Damaged):
            run(read_facts(engine, blob, octets))


def test_a_removed_blob_is_a_gone_message(engine: Engine) -> None:
    blob = run(store(engine, HEADER))
    run(engine.write(lambda txn: txn.delete(Table.BLOB, frame_key(blob.blob_id, 0))))
    with pytest.raises(MessageGone):
        run(load(engine, blob))
    with pytest.raises(MessageGone):
        run(read_facts(engine, blob, 10))


# Tampering.


def test_each_changed_byte_of_a_frame_is_refused() -> None:
    engine = memory_engine()
    blob = run(store(engine, b"A short message." * 3))
    key = frame_key(blob.blob_id, 0)
    value = rows(engine, Table.BLOB)[key]
    for at in range(len(value)):
        changed = value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
        run(engine.write(lambda txn, changed=changed: txn.put(Table.BLOB, key, changed)))
        with pytest.raises(Damaged):
            run(read_frame(engine, blob, 0))
    for cut in (value[:-1], value + b"\0", b"", value[:60]):
        run(engine.write(lambda txn, cut=cut: txn.put(Table.BLOB, key, cut)))
        with pytest.raises(Damaged):
            run(read_frame(engine, blob, 0))


def test_swapped_frames_are_refused() -> None:
    engine = memory_engine()
    blob = run(store(engine, HEADER + noise(3 * FRAME_OCTETS)))
    other = run(store(engine, HEADER + noise(3 * FRAME_OCTETS, 2)))
    stored = rows(engine, Table.BLOB)
    first, second, last = (frame_key(blob.blob_id, n) for n in (1, 2, 3))
    for target, source in [
        (first, second),
        (second, last),
        (last, second),
        (first, frame_key(other.blob_id, 1)),
        (last, frame_key(other.blob_id, 3)),
    ]:
        run(engine.write(lambda txn, t=target, s=source: txn.put(Table.BLOB, t, stored[s])))
        with pytest.raises(Damaged):
            run(load(engine, blob))
        run(engine.write(lambda txn, t=target: txn.put(Table.BLOB, t, stored[t])))
    assert len(run(load(engine, blob))) == blob.size


def test_a_frame_that_is_no_longer_last_is_refused() -> None:
    engine = memory_engine()
    blob = run(store(engine, HEADER + noise(FRAME_OCTETS + 5)))
    value = rows(engine, Table.BLOB)[frame_key(blob.blob_id, 1)]
    longer = StoredBlob(blob.cek, blob.blob_id, len(HEADER) + FRAME_OCTETS, 2, blob.f0_len, blob.sha256, ())
    run(engine.write(lambda txn: txn.put(Table.BLOB, frame_key(blob.blob_id, 1), value)))
    with pytest.raises(Damaged):
        run(read_frame(engine, longer, 1))


@pytest.mark.parametrize(
    "plain", [b"", b"\0\0\0", b"\0\0\0\0\5four", b"\2\0\0\0\1x", b"\1\0\0\0\4junk", b"\0\0\0\0\1x"], ids=repr
)
def test_what_is_well_sealed_but_wrong_inside_is_refused(plain: bytes) -> None:
    engine = memory_engine()
    blob = run(store(engine, b"four"))
    key = frame_key(blob.blob_id, 0)
    sealed = seal_frame(blob.cek, frame_context(blob.blob_id, 0, True), plain)
    run(engine.write(lambda txn: txn.put(Table.BLOB, key, sealed)))
    with pytest.raises(Damaged):
        run(read_frame(engine, blob, 0))


def test_the_key_does_not_show(engine: Engine) -> None:
    blob = run(store(engine, HEADER))
    assert blob.cek.hex() not in repr(blob) and repr(blob.cek) not in repr(blob)


# Large messages.


def test_up_to_4_mib_nothing_is_written_before_the_end(engine: Engine) -> None:
    writer = BlobWriter(engine, lambda: 0)
    assert writer.write(noise(STAGE_OCTETS - FRAME_OCTETS)) is None
    blob = run(writer.finish())
    assert not blob.staged and not rows(engine, Table.BLOB)
    assert writer.size == STAGE_OCTETS - FRAME_OCTETS


def test_a_larger_message_is_staged_and_waits_for_the_disk(tmp_path: Path) -> None:
    engine = lmdb_engine(tmp_path)
    content = noise(3 * STAGE_OCTETS)
    writer = BlobWriter(engine, lambda: 0)
    assert writer.write(content[: STAGE_OCTETS + 2 * FRAME_OCTETS]) is None
    pause = writer.write(content[STAGE_OCTETS + 2 * FRAME_OCTETS :])
    assert pause is not None
    run(pause)
    blob = run(writer.finish())
    assert blob.staged and list(rows(engine, Table.STAGE)) == [blob.blob_id]
    run(engine.write(blob.write))
    assert not rows(engine, Table.STAGE)
    assert run(load(engine, blob)) == content
    run(engine.close())


@pytest.mark.parametrize("staged", [False, True])
def test_an_aborted_message_leaves_nothing(engine: Engine, staged: bool) -> None:
    writer = BlobWriter(engine, lambda: 0)
    for _ in range(3 if staged else 1):
        pause = writer.write(noise(STAGE_OCTETS - 100))
        if pause is not None:
            run(pause)
    removal = writer.abort()
    assert (removal is not None) == staged
    if removal is not None:
        run(removal)
    assert not rows(engine, Table.STAGE) and not rows(engine, Table.DEAD) and not rows(engine, Table.BLOB)
    with pytest.raises(StoreUnavailable):
        writer.write(b"more")


def test_a_finished_message_can_be_forgotten(engine: Engine) -> None:
    async def work() -> None:
        writer = BlobWriter(engine, lambda: 0)
        for _ in range(2):
            pause = writer.write(noise(STAGE_OCTETS))
            if pause is not None:
                await pause
        removal = (await writer.finish()).forget(engine)
        assert removal is not None
        await removal

    run(work())
    assert not rows(engine, Table.STAGE) and not rows(engine, Table.DEAD) and not rows(engine, Table.BLOB)


def test_a_staged_message_whose_stage_row_went_is_not_filed(engine: Engine) -> None:
    async def work() -> StoredBlob:
        writer = BlobWriter(engine, lambda: 0)
        for _ in range(2):
            pause = writer.write(noise(STAGE_OCTETS))
            if pause is not None:
                await pause
        return await writer.finish()

    blob = run(work())
    run(engine.write(lambda txn: txn.delete(Table.STAGE, blob.blob_id)))
    with pytest.raises(StoreUnavailable):
        run(engine.write(blob.write))


def test_a_full_disk_ends_the_upload() -> None:
    engine = memory_engine()
    engine.room = 0

    async def work() -> None:
        writer = BlobWriter(engine, lambda: 0)
        with pytest.raises(StoreFull):
            for _ in range(6):
                pause = writer.write(noise(STAGE_OCTETS))
                if pause is not None:
                    await pause
        removal = writer.abort()
        if removal is not None:
            await removal

    run(work())
    assert not rows(engine, Table.BLOB) and not rows(engine, Table.DEAD)


LARGE = """
import sys, re
sys.path[:0] = [{root!r}, {tests!r}]
from pathlib import Path
from support import lmdb_engine, run
from certmaild.mailbox.blobs import BlobWriter, read_frames

def anonymous_mib():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\\s+(\\d+)", status)[1]) / 1024

engine = lmdb_engine(Path(sys.argv[1]))
piece = bytes(range(256)) * 256
begun = anonymous_mib()
most = 0

async def work():
    global most
    writer = BlobWriter(engine, lambda: 0)
    writer.write(b"Subject: large\\r\\n\\r\\n")
    for n in range(300 * 16):
        pause = writer.write(n.to_bytes(8, "big") + piece[8:])
        if pause is not None:
            await pause
        most = max(most, anonymous_mib()) if n % 16 == 0 else most
    blob = await writer.finish()
    await engine.write(blob.write)
    octets = 0
    async for frame in read_frames(engine, blob):
        octets += len(frame)
        most = max(most, anonymous_mib()) if octets % 32 == 0 else most
    assert octets == blob.size > 300 << 20
    print(most - begun)

run(work())
run(engine.close())
"""


def test_memory_stays_flat_for_300_mib(tmp_path: Path) -> None:
    code = LARGE.format(root=str(ROOT), tests=str(ROOT / "tests"))
    command = [sys.executable, "-P", "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=ROOT / "tests")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 32
