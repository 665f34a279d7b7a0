"""A real Postfix as another server, for tests: it relays everything that its `sendmail` takes to one port of ours."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from clients_support import run
from daemon import Daemon

Find = Callable[[str], str]


@contextmanager
def running_postfix(
    daemon: Daemon, program: Find, tmp_path: Path, *settings: str, port: int | None = None
) -> Iterator[Path]:
    """Its configuration folder. ``settings`` are further lines of ``main.cf``; on ``port`` it takes mail too."""
    command = program("postfix")
    if os.geteuid() != 0:
        pytest.skip("Postfix starts as root only")
    # Postfix's own user must reach its queue through the test's folders.
    for folder in (tmp_path, *tmp_path.parents):
        if folder == Path("/tmp"):
            break
        folder.chmod(folder.stat().st_mode | 0o011)
    config, queue, data = tmp_path / "etc", tmp_path / "queue", tmp_path / "data"
    config.mkdir()
    queue.mkdir()
    data.mkdir()
    subprocess.run(["chown", "postfix", str(data)], check=True)
    ca = tmp_path / "ca.pem"
    ca.write_bytes(daemon.ca_file.read_bytes())
    (config / "main.cf").write_text(
        f"compatibility_level = 3.6\nqueue_directory = {queue}\ndata_directory = {data}\nmyhostname = partner.example\n"
        f"relayhost = [localhost]:{daemon.ports['smtp']}\ninet_interfaces = loopback-only\ninet_protocols = ipv4\n"
        f"mydestination =\nsmtp_tls_security_level = secure\nsmtp_tls_CAfile = {ca}\nsmtp_tls_loglevel = 1\n"
        f"smtp_tls_secure_cert_match = hostname\nsmtp_host_lookup = native\nmaillog_file = {queue}/maillog\n"
        f"maillog_file_prefixes = {queue}\nmaximal_backoff_time = 1s\nminimal_backoff_time = 1s\nalias_maps =\n"
        f"smtp_tls_mandatory_protocols = >=TLSv1.2\nimport_environment = MAIL_CONFIG\n"
        + "".join(f"{one}\n" for one in settings)
    )
    master = Path("/etc/postfix/master.cf")
    if not master.exists():
        master = Path("/usr/share/postfix/master.cf.dist")
    services = [
        line.replace(" y ", " n ") for line in master.read_text().splitlines() if not line.startswith("smtp      inet")
    ]
    if not any(line.startswith("postlog") for line in services):
        services.append("postlog   unix-dgram n  -       n       -       1       postlogd")
    if port is not None:
        services.append(f"127.0.0.1:{port} inet n - n - - smtpd")
    (config / "master.cf").write_text("\n".join(services) + "\n")
    run(command, "-c", str(config), "start", home=tmp_path)
    try:
        yield config
    finally:
        run(command, "-c", str(config), "stop", home=tmp_path)
