"""The engine under the real reactor: answers come from its threads, shutdown waits for them."""

import subprocess
import sys
from pathlib import Path

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
