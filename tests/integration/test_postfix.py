"""A real Postfix as the partner's server: delivers to port 25 with `smtp_tls_security_level = secure`."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clients_support import make_mail, read_all, run
from daemon import Account, Daemon

Find = Callable[[str], str]
DELIVERY_TIME_S = 60


@pytest.fixture
def postfix(daemon: Daemon, program: Find, tmp_path: Path) -> Iterator[Path]:
    """The configuration folder of a running Postfix that relays everything to the daemon's port 25."""
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
    )
    master = Path("/etc/postfix/master.cf")
    if not master.exists():
        master = Path("/usr/share/postfix/master.cf.dist")
    services = [
        line.replace(" y ", " n ") for line in master.read_text().splitlines() if not line.startswith("smtp      inet")
    ]
    if not any(line.startswith("postlog") for line in services):
        services.append("postlog   unix-dgram n  -       n       -       1       postlogd")
    (config / "master.cf").write_text("\n".join(services) + "\n")
    run(command, "-c", str(config), "start", home=tmp_path)
    yield config
    run(command, "-c", str(config), "stop", home=tmp_path)


def test_postfix_delivers_over_verified_tls(
    daemon: Daemon, account: Account, postfix: Path, program: Find, tmp_path: Path
) -> None:
    contents = [make_mail(f"from Postfix {number}", to=account.address) for number in range(20)]
    for content in contents:
        run(
            *(program("sendmail"), "-C", str(postfix), "-f", "bob@partner.example", "-i", account.address),
            home=tmp_path,
            stdin=content.replace(b"\r\n", b"\n"),
        )
    deadline = time.monotonic() + DELIVERY_TIME_S
    while len(found := read_all(daemon, account)) < len(contents):
        log = postfix.parent / "queue" / "maillog"
        assert time.monotonic() < deadline, log.read_text()[-3000:] if log.exists() else "no maillog"
        time.sleep(0.2)  # Postfix gives no event to wait on
    assert {one[one.index(b"Subject: ") :].split(b"\r\n")[0] for one in found} == {
        b"Subject: from Postfix %d" % number for number in range(20)
    }
    assert b"Verified TLS connection" in (postfix.parent / "queue" / "maillog").read_bytes()
