"""Started as root, the daemon serves as the user named; needs root itself, and a user who can run the interpreter."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from clients_support import deliver, make_mail, read_all
from daemon import BIN, Daemon
from worker_support import await_workers, lives, wait_for, workers_of

USER = "nobody"
SYSTEM = Path("/usr/bin/python3")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that belongs to the user, where he can reach it."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    user = pwd.getpwnam(USER)
    folder = Path(tempfile.mkdtemp(prefix="certmaild-test-"))
    os.chown(folder, user.pw_uid, user.pw_gid)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def python(place: Path, request: pytest.FixtureRequest) -> Path:
    """A Python that the user can run with certmaild in it: this one, or else the system's with the same packages."""
    # Workers he starts himself, without root's right to any path.
    starts = bool(request.node.callspec.params["workers"])
    if can_run(BIN / "python", starts):
        return BIN / "python"
    own = place / "venv"
    if SYSTEM.exists():
        subprocess.run([SYSTEM, "-m", "venv", "--without-pip", own], check=True)
        for site in own.glob("lib/python3*/site-packages"):
            (site / "these.pth").write_text("\n".join(path for path in sys.path if is_ours(path)))
        if can_run(own / "bin" / "python", starts):
            return own / "bin" / "python"
    pytest.skip(f"{USER} can run certmaild neither with {BIN}/python nor with {SYSTEM}")


def is_ours(path: str) -> bool:
    """Whether a folder of modules is not this interpreter's own."""
    return Path(path).is_dir() and not path.startswith(sys.base_prefix)


def can_run(python: Path, starts: bool) -> bool:
    """Whether the user can, and start another Python himself."""
    group = str(pwd.getpwnam(USER).pw_gid)
    words = ["setpriv", "--reuid", USER, "--regid", group, "--clear-groups", str(python), "-P", "-c"]
    probe = "import certmaild.service\n"
    if starts:
        probe += "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import certmaild.worker'], check=True)"
    return not subprocess.run([*words, probe], cwd="/", capture_output=True, check=False).returncode


def uids(pid: int) -> set[str]:
    """Real, effective, saved and file system user."""
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("Uid:"))
    return set(line.split()[1:])


@pytest.mark.parametrize("workers", [0, 2])
def test_the_daemon_in_the_background_serves_as_the_user_named(place: Path, python: Path, workers: int) -> None:
    user = pwd.getpwnam(USER)
    daemon = Daemon(place, workers=workers)
    (place / "data").mkdir(mode=0o700)
    os.chown(place / "data", user.pw_uid, user.pw_gid)
    daemon.set_up()
    twistd = [str(python), "-P", "-c", "from twisted.scripts.twistd import run; run()"]
    pid_file, words = place / "pid", [*twistd, "--uid", USER, "--gid", str(user.pw_gid)]
    words += ["--pidfile", str(pid_file), "--logfile", str(daemon.log), "certmaild", "--config", str(daemon.config)]
    subprocess.run(words, cwd=place, check=True, timeout=60)
    pid = int(pid_file.read_text())
    try:
        if workers:
            await_workers(daemon, workers)
        account = daemon.add_user("ann")
        wait_for(lambda: any("serves" in line for line in daemon.log.read_text().splitlines()))
        deliver(daemon, account.address, make_mail("dropped", to=account.address))
        assert len(read_all(daemon, account)) == 1
        for one in (pid, *workers_of(daemon).values()):
            assert uids(one) == {str(user.pw_uid)}
        assert {one.stat().st_uid for one in daemon.data.rglob("*")} == {user.pw_uid}
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not lives(pid), 40)
