"""The comparison end to end, with very few messages; its parts that keep and resume results."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import compare
import peer
import pytest
from clients import Imap
from compare import House, Results, fewer
from daemon import BIN
from figures import make_message
from programs import environment
from report import BEGIN, CLEAR, CRYPT, END, OURS, table
from workloads import WORKLOADS, Counts

TINY = replace(Counts().quick(), stored=20, drained=20)
needs_peer = pytest.mark.skipif(peer.why_not() is not None, reason=str(peer.why_not()))


def test_the_corpus_is_the_same_every_time_and_of_the_size_asked_for() -> None:
    assert make_message(7, 10240) == make_message(7, 10240)
    assert len({make_message(number, 10240) for number in range(250)}) == 250
    for octets in (1024, 10240, 102400, 1 << 20):
        assert 0.85 * octets < len(make_message(4711, octets)) < 1.05 * octets
    assert all(len(line) < 998 for line in make_message(3, 10240).split(b"\r\n"))
    assert b"\r\n." not in make_message(3, 102400)


def test_results_are_gone_on_with_and_what_was_cut_short_is_repeated(tmp_path: Path) -> None:
    results = Results(tmp_path / "out")
    results.add("store", OURS, 0, "append", {"server_cpu_ms_each": 1})
    results.add("store", OURS, 0, "end", {})
    results.add("store", CLEAR, 0, "append", {"server_cpu_ms_each": 2})
    again = Results(tmp_path / "out")
    assert again.has("store", OURS, 0)
    assert not again.has("store", CLEAR, 0)
    assert [(line["server"], line["figure"]) for line in again.finished()] == [(OURS, "append")]
    again.add("store", CLEAR, 0, "append", {"server_cpu_ms_each": 3})
    again.add("store", CLEAR, 0, "end", {})
    assert [line["values"] for line in again.finished()] == [{"server_cpu_ms_each": 1}, {"server_cpu_ms_each": 3}]


def test_the_page_says_what_had_fewer_rounds() -> None:
    def line(workload: str, server: str, turn: int) -> dict[str, object]:
        return {"workload": workload, "server": server, "round": turn}

    lines = [line("deliver", server, turn) for server in (OURS, CLEAR) for turn in range(3)]
    assert fewer(lines, 3) == ""
    lines += [line("read", OURS, turn) for turn in range(3)] + [line("read", CRYPT, 0)]
    lines += [line("idle", OURS, 0), line("idle", CLEAR, 0)]
    assert fewer(lines, 3) == f", 1 of read on {CRYPT}, 1 of idle"


def test_other_counts_do_not_enter_the_same_file(tmp_path: Path) -> None:
    results = Results(tmp_path / "out")
    results.begin(TINY)
    results.begin(TINY)
    assert [line["figure"] for line in results.lines] == ["counts", "machine", "end"]
    with pytest.raises(SystemExit, match="other counts"):
        results.begin(Counts())


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """The servers' Unix sockets have names of 107 characters at most: pytest's own folder is too deep."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        yield Path(name)


@needs_peer
@pytest.mark.integration
def test_every_server_is_measured(tmp_path: Path, short_folder: Path) -> None:
    results, house = Results(tmp_path / "out"), House(short_folder)
    results.begin(TINY)
    try:
        failed = compare.run(house, results, [WORKLOADS["store"], WORKLOADS["pop3"]], TINY, 1)
    finally:
        house.close()
    assert failed == []
    for figure in ("append", "multiappend", "copy", "move", "drain"):
        found = [line["server"] for line in results.finished() if line["figure"] == figure]
        assert found == [OURS, CLEAR, CRYPT]
    assert "| COPY, each | ms CPU | " in table(results.finished())


def test_the_page_names_machine_and_counts_and_shows_the_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results = Results(tmp_path / "out")
    results.add("machine", OURS, 0, "counts", asdict(TINY) | {"workers": 2})
    results.add("machine", OURS, 0, "end", {})
    for server in (OURS, CLEAR, CRYPT):
        results.add("store", server, 0, "copy", {"server_cpu_ms_each": 0.02})
        results.add("store", server, 0, "end", {})
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    compare.write_page(results, page)
    text = page.read_text()
    assert "Medians of 1 round." in text and "`workers = 2`" in text and "**Not the full counts" in text
    assert "| COPY, each | ms CPU | 0.02 | 0.02 | 0.02 | 1× | 1× | 0.02 | reached |" in text
    assert "(comparison.svg)" in text and (tmp_path / "comparison.svg").exists()


@needs_peer
@pytest.mark.integration
def test_a_peer_comes_up_by_command_reads_with_the_password_only_and_goes_down(short_folder: Path) -> None:
    command = [str(BIN / "python"), str(Path(peer.__file__)), "{}", str(short_folder / "peer")]

    def run(word: str, *more: str) -> str:
        words = [part.format(word) for part in command]
        return subprocess.run(
            [*words, *more], capture_output=True, text=True, check=True, timeout=60, env=environment()
        ).stdout

    up = json.loads(run("up", "--crypt"))
    server = peer.Peer.at(short_folder / "peer")
    try:
        imap = Imap(up["imaps"], server.tls_context(), up["address"], up["password"])
        imap.command(b"APPEND INBOX {%d+}\r\n%s" % (len(mail := make_message(1, 2048)), mail))
        doveadm = ["doveadm", "-c", str(short_folder / "peer/dovecot/dovecot.conf")]
        words = ["fetch", "-u", up["address"], "body", "mailbox", "INBOX"]
        without = subprocess.run([*doveadm, *words], capture_output=True, text=True, check=False)
        assert "Private key not available" in without.stderr
        assert server.meter is not None and len(server.meter.pids()) > 10
    finally:
        run("down")
    assert server.meter.pids() == [] if server.meter.folder is None else not server.meter.folder.exists()
