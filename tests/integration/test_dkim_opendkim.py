"""OpenDKIM checks what we sign, asking a DNS server of the test for the keys that `certmaild dkim make` printed."""

import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.rdatatype
import dns.rrset
import pytest
from click.testing import CliRunner

from certmaild.commands.main import cli
from certmaild.dkim.key_files import KeyFiles
from certmaild.outbound.dkim_sign import Signer

ADDRESS = "127.0.0.99"
HEADER = (
    b"From: Ann <ann@example.com>\r\nTo: x@y.example\r\nSubject: hi\r\n there\r\n"
    b"Date: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <a@b>\r\n"
)
BODY = b"Hello  you \r\n\r\nBye.\r\n\r\n\r\n"


class Zone:
    """A DNS server on port 53 of a loopback address: OpenDKIM asks at no other port."""

    def __init__(self, lines: list[str]) -> None:
        self._records = {line.split(" IN TXT ")[0]: line.split(" IN TXT ")[1] for line in lines}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((ADDRESS, 53))
        except OSError as fault:
            pytest.skip(f"no port 53 on {ADDRESS}: {fault}")
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                octets, peer = self._socket.recvfrom(4096)
            except OSError:
                return
            question = dns.message.from_wire(octets)
            response = dns.message.make_response(question)
            name = question.question[0].name.to_text()
            if name in self._records:
                response.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", self._records[name]))
            self._socket.sendto(response.to_wire(), peer)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[bytes]]]:
    """A resolv.conf, and our signatures."""
    if os.geteuid() != 0 or shutil.which("opendkim-testmsg") is None or shutil.which("unshare") is None:
        pytest.skip("needs root, opendkim-testmsg (opendkim-tools) and unshare")
    folder = tmp_path_factory.mktemp("dkim")
    config = folder / "certmaild.toml"
    config.write_text(f'hostname = "mx.example.com"\ndomains = ["example.com"]\ndata = "{folder}/data"\n')
    printed = CliRunner().invoke(cli, ["--config", str(config), "dkim", "make"], catch_exceptions=False).output
    zone = Zone([line for line in printed.splitlines() if " IN TXT " in line])
    resolv = folder / "resolv.conf"
    resolv.write_text(f"nameserver {ADDRESS}\n")
    signer = Signer(("example.com",), KeyFiles(folder / "data").signing)
    body = signer.body_hash()
    body.feed(BODY)
    body.finish()
    prefix = signer.sign(HEADER, body, domain="example.com", now_s=time.time())
    yield resolv, re.findall(rb"DKIM-Signature:(?:[^\r]*\r\n[ \t])*[^\r]*\r\n", prefix)
    zone.close()


@pytest.mark.parametrize("number", [0, 1], ids=["rsa", "ed25519"])
@pytest.mark.parametrize("is_changed", [False, True])
def test_opendkim_agrees(signed: tuple[Path, list[bytes]], number: int, is_changed: bool) -> None:
    resolv, signatures = signed
    message = signatures[number] + HEADER + b"\r\n" + (BODY.replace(b"you", b"me") if is_changed else BODY)
    script = f"mount --bind {resolv} /etc/resolv.conf && exec opendkim-testmsg -C"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], input=message, capture_output=True, check=False)
    if b"mount" in done.stderr:
        pytest.skip("no mount namespaces here")
    assert (done.returncode != 0) == is_changed, done.stderr
    assert (b"Bad signature" in done.stderr) == is_changed
