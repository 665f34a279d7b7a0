"""Real mail servers that take mail on loopback: Postfix as installed, Exim and OpenSMTPD unpacked from their packages.

These two conflict with Postfix as packages, so they are never installed: ``apt-get download`` (or the folder that
CERTMAILD_DEBS names, with the packages in it) and ``dpkg-deb -x``. They run in a mount namespace of their own, where
the users and folders that they were built for exist.
"""

import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from postfix import Postfix, service, why_not
from tls_support import Certified

START_S = 20
ARRIVE_S = 30
NO_FILES: Mapping[str, Path] = {}
USERS = {"Debian-exim": 901, "opensmtpd": 902, "opensmtpq": 903}


class Maildir:
    """What a server stored."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: set[Path] = set()

    def next(self) -> bytes:
        """The next message that arrives, with CRLF line ends."""
        deadline = time.monotonic() + ARRIVE_S
        while True:
            for path in sorted(self._folder.rglob("new/*")):
                if path not in self._seen:
                    self._seen.add(path)
                    return path.read_bytes().replace(b"\n", b"\r\n")
            assert time.monotonic() < deadline, "no message arrived"
            time.sleep(0.05)  # other people's servers give no event to wait on


@dataclass(frozen=True)
class Place:
    """Where a server listens."""

    address: str
    port: int


def own_address() -> str:
    """An address of this machine that nobody else uses: on 127.0.0.1 any port may be gone in the next moment."""
    return "127.{}.{}.{}".format(*(random.randint(2, 250) for _ in range(3)))


def await_port(place: Place, log: Path | None = None) -> None:
    """Until somebody greets there."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            with socket.create_connection((place.address, place.port), timeout=5) as line:
                if line.recv(100).startswith(b"220"):
                    line.sendall(b"QUIT\r\n")
                    return
        except OSError:
            pass
        text = log.read_text("utf-8", "replace")[-2000:] if log is not None and log.exists() else ""
        assert time.monotonic() < deadline, text
        time.sleep(0.05)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that the servers' own users reach: not below pytest's, which each run of pytest closes again."""
    folder = Path(tempfile.mkdtemp(prefix="certmaild-peer-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# Postfix


@contextmanager
def receiving_postfix(folder: Path, services: dict[str, Sequence[str]]) -> Iterator[tuple[dict[str, Place], Maildir]]:
    """Where each service is, by name; ``services`` gives the settings of each (``main.cf`` words)."""
    if reason := why_not():
        pytest.skip(reason)
    box = folder / "box"
    box.mkdir()
    shutil.chown(box, "postfix")
    uid = box.stat().st_uid
    settings = (
        "myhostname = mx.p.example",
        "mynetworks =",
        "virtual_mailbox_domains = p.example, xn--bcher-kva.example",
        f"virtual_mailbox_base = {box}",
        "virtual_mailbox_maps = inline:{ bob@p.example=bob/ {ü@p.example=u/} bob@xn--bcher-kva.example=bob/ }",
        f"virtual_uid_maps = static:{uid}",
        f"virtual_gid_maps = static:{uid}",
        f"virtual_minimum_uid = {uid}",
        "smtpd_relay_restrictions = reject_unauth_destination",
        "message_size_limit = 30000000",
        "smtputf8_enable = yes",
        "smtpd_tls_loglevel = 1",
    )
    address = own_address()
    places = {name: Place(address, 1025 + number) for number, name in enumerate(services)}
    listening = [service(f"{address}:{places[name].port}", *own) for name, own in services.items()]
    with Postfix(folder / "postfix", settings, listening):
        yield places, Maildir(box)


# Unpacked servers


@cache
def unpacked(*packages: str) -> Path:
    """A folder with the files of Debian packages, which are not installed; or a skip."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("mount namespaces need root")
    folder = Path(tempfile.mkdtemp(prefix="certmaild-debs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    given = os.environ.get("CERTMAILD_DEBS")
    for package in packages:
        found = sorted(Path(given).glob(f"{package}_*.deb")) if given else []
        if not found:
            subprocess.run(["apt-get", "download", package], cwd=folder, capture_output=True)
            found = sorted(folder.glob(f"{package}_*.deb"))
        if not found or subprocess.run(["dpkg-deb", "-x", str(found[0]), str(folder)]).returncode:
            pytest.skip(f"the package {package} cannot be had")
    folder.chmod(0o755)
    return folder


@contextmanager
def in_namespace(folder: Path, script: str, place: Place, files: Mapping[str, Path] = NO_FILES) -> Iterator[Maildir]:
    """Run a shell script that ends in a server, with `USERS` known and /var, /run and /usr/libexec its own.

    ``files`` are seen in it at other paths.
    """
    box = folder / "box"
    box.mkdir()
    shutil.chown(box, "nobody")
    for name, line in (("passwd", "{0}:x:{1}:{1}::/nonexistent:/bin/false\n"), ("group", "{0}:x:{1}:\n")):
        text = Path(f"/etc/{name}").read_text() + "".join(line.format(*user) for user in USERS.items())
        (folder / name).write_text(text)
    files = {"/etc/passwd": folder / "passwd", "/etc/group": folder / "group", **files}
    mounts = "".join(f"mount --bind {file} {path}\n" for path, file in files.items())
    mounts += "".join(f"mount -t tmpfs none {place}\n" for place in ("/var/lib", "/var/spool", "/var/log", "/run"))
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["unshare", "-m", "--pid", "--fork", "--kill-child", "sh", "-ec", mounts + script],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        await_port(place, log)
        yield Maildir(box)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def running_exim(
    folder: Path, place: Place, settings: str, key: Path | None = None, files: Mapping[str, Path] = NO_FILES
) -> Iterator[Maildir]:
    """Exim with the settings that matter; the key is at /var/lib/key.pem for it, and the log is in the folder."""
    program = unpacked("exim4-daemon-light", "exim4-base") / "usr" / "sbin" / "exim4"
    config = folder / "exim.conf"
    config.write_text(
        f"exim_path = {program}\nexim_user = Debian-exim\nexim_group = Debian-exim\nnever_users =\n"
        f"spool_directory = /var/spool/exim\nlog_file_path = {folder}/logs/%slog\n{settings}"
    )
    script = "" if key is None else f"install -o Debian-exim -m 600 {key} /var/lib/key.pem\n"
    script += (
        f"install -d -o Debian-exim /var/spool/exim {folder}/logs\n"
        # Where it looks by itself: with -C it would give up its privileges, and deliver nothing.
        f"install -D -m 644 {config} /var/lib/exim4/config.autogenerated\n"
        f"exec {program} -bdf -oX '<; [{place.address}]:{place.port}' -oP /run/exim.pid\n"
    )
    with in_namespace(folder, script, place, files) as box:
        yield box


@contextmanager
def receiving_exim(folder: Path, shown: Certified) -> Iterator[tuple[Place, Maildir]]:
    """Exim with a certificate; it takes everything."""
    chain, key = shown.write(folder)
    place = Place(own_address(), 1025)
    settings = (
        "primary_hostname = mx.p.example\nacl_smtp_rcpt = take\n"
        f"tls_advertise_hosts = *\ntls_certificate = {chain}\ntls_privatekey = /var/lib/key.pem\n"
        "chunking_advertise_hosts = *\nsmtputf8_advertise_hosts = *\nprdr_enable\ndsn_advertise_hosts = *\n"
        "begin acl\ntake:\n  accept\nbegin routers\nall:\n  driver = accept\n  transport = box\nbegin transports\n"
        f"box:\n  driver = appendfile\n  maildir_format\n  directory = {folder}/box\n  user = nobody\n"
        "  group = nogroup\nbegin retry\n* * F,1h,1m\n"
    )
    with running_exim(folder, place, settings, key) as box:
        yield place, box


@contextmanager
def running_opensmtpd(
    folder: Path, place: Place, settings: str, shown: Certified | None = None, files: Mapping[str, Path] = NO_FILES
) -> Iterator[Maildir]:
    """OpenSMTPD with these settings; chain and key are at /var/lib/chain.pem and key.pem for it."""
    unpacked_to = unpacked("opensmtpd")
    config = folder / "smtpd.conf"
    config.write_text(settings)
    script = ""
    if shown is not None:
        chain, key = shown.write(folder)
        script = f"install -m 600 {key} /var/lib/key.pem\ninstall -m 644 {chain} /var/lib/chain.pem\n"
    script += (
        "mkdir -p /var/lib/opensmtpd/empty\ninstall -d -m 711 /var/spool/smtpd\nmount -t tmpfs none /usr/libexec\n"
        f"cp -r {unpacked_to}/usr/libexec/opensmtpd /usr/libexec/\nexec {unpacked_to}/usr/sbin/smtpd -d -f {config}\n"
    )
    with in_namespace(folder, script, place, files) as box:
        yield box


@contextmanager
def receiving_opensmtpd(folder: Path, shown: Certified) -> Iterator[tuple[Place, Maildir]]:
    """OpenSMTPD with a certificate; it takes everything."""
    place = Place(own_address(), 1025)
    settings = (
        f'pki "mx.p.example" cert "/var/lib/chain.pem"\npki "mx.p.example" key "/var/lib/key.pem"\n'
        f'table users {{ "@" = "nobody" }}\n'
        f'listen on {place.address} port {place.port} tls pki "mx.p.example" hostname "mx.p.example"\n'
        f'action "box" maildir "{folder}/box" virtual <users>\nmatch from any for any action "box"\n'
    )
    with running_opensmtpd(folder, place, settings, shown) as box:
        yield place, box
