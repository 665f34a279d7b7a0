"""The daemon and its limit of open files."""

import resource
from pathlib import Path

from clients import connect
from daemon import Daemon


def open_files(daemon: Daemon) -> int:
    """The soft limit of the daemon, once it serves."""
    connect(daemon.ports["imaps"], daemon.tls_context()).line()
    for line in Path(f"/proc/{daemon.pid}/limits").read_text().splitlines():
        if line.startswith("Max open files"):
            return int(line.split()[3])
    raise AssertionError("no such limit")


def test_the_daemon_raises_its_limit_or_says_what_to_do(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    daemon = Daemon(tmp_path, tables="[limits]\nconnections = 1000").set_up()
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        with daemon.start():
            assert open_files(daemon) == 2000
            assert "limits.connections" not in daemon.log.read_text()
        if hard == resource.RLIM_INFINITY:
            return
        daemon.tables = f"[limits]\nconnections = {hard}"
        daemon.configure()
        with daemon.start():
            assert open_files(daemon) == hard
            assert f"LimitNOFILE={hard + 1000}" in daemon.log.read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
