"""The engine under the real reactor: answers come from its threads, shutdown waits for them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from certmaild.keystore.server_secrets import FILES, ServerSecrets
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.engine_lmdb import LmdbEngine
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.layout import Table

secrets = ServerSecrets({{name: bytes([n]) * 32 for n, name in enumerate(FILES, 1)}})
user = UserId(b"u" * 16)

async def main():
    engine, other = None, None
    engine = LmdbEngine(Path(sys.argv[1]) / "store", reactor, secrets, poll_s=0.01)
    engine.start()
    heard = []
    engine.hub.watch(user, heard.append)
    def work(txn, n):
        txn.put(Table.USE, b"%d" % n, b"v")
        txn.announce(Change(ChangeKind.ARRIVAL, user))
    await gatherResults([engine.write(lambda txn, n=n: work(txn, n)) for n in range(300)])
    assert len(await engine.scan(lambda txn: list(txn.scan(Table.USE, b"")))) == 300
    assert heard
    last = engine.write(lambda txn: txn.put(Table.USE, b"last", b"v"))
    await engine.close()
    assert last.called
    print("done")

def run():
    done = Deferred.fromCoroutine(main())
    done.addErrback(lambda failure: failure.printTraceback())
    done.addBoth(lambda _: reactor.stop())

reactor.callWhenRunning(run)
reactor.run()
"""


def test_writes_scans_and_shutdown_under_the_real_reactor(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", PROGRAM.format(root=str(ROOT)), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT / "tests")
    assert (done.stdout, done.stderr) == ("done\n", "")


HEAR = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from twisted.internet import reactor
from certmaild.keystore.server_secrets import FILES, ServerSecrets
from certmaild.mailbox.bells import Bell, Bells
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.engine_lmdb import LmdbEngine
from certmaild.mailbox.identifiers import UserId
from certmaild.mailbox.layout import Table

secrets = ServerSecrets({{name: bytes([n]) * 32 for n, name in enumerate(FILES, 1)}})
folder, slot = Path(sys.argv[1]), int(sys.argv[2])
engine = LmdbEngine(folder / "store", reactor, secrets, bells=Bells(folder / "bells", slot=slot, slots=2), poll_s=3600)
rounds = 0

def commit():
    def work(txn):
        txn.put(Table.USE, b"%d" % slot, b"v")
        txn.announce(Change(ChangeKind.ARRIVAL, UserId(b"%d" % slot * 16)))
    engine.write(work)

def heard(change):
    global rounds
    rounds += 1
    commit()
    if rounds == 20:
        print("done", flush=True)

engine.start(Bell(folder / "bells", slot, reactor))
engine.hub.watch(UserId(b"%d" % (3 - slot) * 16), lambda change: reactor.callLater(0, heard, change))
print("hears", flush=True)
if slot == 1:
    assert sys.stdin.readline() == "go\\n"
    commit()
reactor.run()
"""


@pytest.mark.timeout(60)
def test_a_commit_wakes_another_process(tmp_path: Path) -> None:
    """Two processes commit in turn, each when it has heard a change: nobody looks by himself within the hour."""
    words = [sys.executable, "-P", "-c", HEAR.format(root=str(ROOT)), str(tmp_path)]
    both = [subprocess.Popen([*words, slot], stdin=-1, stdout=-1, text=True, cwd=ROOT / "tests") for slot in "12"]
    try:
        for one in both:
            assert one.stdout is not None
            assert one.stdout.readline() == "hears\n"
        assert both[0].stdin is not None
        both[0].stdin.write("go\n")
        both[0].stdin.flush()
        for one in both:
            assert one.stdout is not None
            assert one.stdout.readline() == "done\n"
    finally:
        for one in both:
            one.kill()
            one.communicate()
