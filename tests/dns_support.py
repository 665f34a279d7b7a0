"""DNS for tests: answers from a table, or a real `unbound` over real `nsd` zones on loopback, signed if wished.

The real one, for any test (skips where the programs are missing)::

    with DnsNetwork(tmp_path, {"example.org": "@ MX 10 mx\\nmx A 127.0.3.1"}, signed={"example.org"}) as dns:
        resolver = Resolver(running_reactor(), [Server.read(dns.resolver)])      # or [resolver] addresses in a config

Zones may be changed while it runs (`DnsNetwork.change`). Everything that is asked of other names is NXDOMAIN.
"""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import dns.dnssec
import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.zone
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from dns.rdatatype import RdataType

from certmaild.dns.values import Answer, DnsStatus

START_S = 20
_SOA = "@ 300 IN SOA ns hostmaster 1 3600 600 86400 60\n@ 300 IN NS ns\nns 300 IN A 127.0.0.1\n"


class ScriptedLookup:
    """A `Lookup` over a table: ``{("example.org", "MX"): ["10 mx.example.org."]}``, and a list of what was asked.

    A name in the table without the type is NO_DATA, any other NO_NAME; the text ``FAIL`` or ``BOGUS`` in place of
    the records fails. CNAME records are followed.
    ``secure`` are the names that DNSSEC vouches for (a name covers those below it).
    """

    def __init__(self, table: Mapping[tuple[str, str], "list[str] | str"], *, secure: Iterable[str] = ()) -> None:
        self.table = dict(table)
        self.secure = set(secure)
        self.asked: list[tuple[str, str]] = []

    async def ask(self, name: str, kind: RdataType) -> Answer[dns.rdata.Rdata]:
        self.asked.append((name, kind.name))
        secure = True
        while kind is not RdataType.CNAME and (name, "CNAME") in self.table:
            secure = secure and self._is_secure(name)
            name = self.table[name, "CNAME"][0].removesuffix(".")
        answer = self._look(name, kind)
        return replace(answer, secure=answer.secure and secure)

    def _is_secure(self, name: str) -> bool:
        return any(name == one or name.endswith("." + one) for one in self.secure)

    def _look(self, name: str, kind: RdataType) -> Answer[dns.rdata.Rdata]:
        given = self.table.get((name, kind.name), [])
        if isinstance(given, str):
            return Answer(DnsStatus.FAILED, name, reason="the DNS server says SERVFAIL", bogus=given == "BOGUS")
        secure = self._is_secure(name)
        if not given:
            known = any(one == name or one.endswith("." + name) for one, _ in self.table)
            return Answer(DnsStatus.NO_DATA if known else DnsStatus.NO_NAME, name, (), secure, 300)
        rdatas = tuple(dns.rdata.from_text(dns.rdataclass.IN, kind, one) for one in given)
        return Answer(DnsStatus.FOUND, name, rdatas, secure, 300)


def _free_port() -> int:
    """A port free for UDP and TCP on 127.0.0.1."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind(("127.0.0.1", 0))
            port: int = udp.getsockname()[1]
            try:
                tcp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _program(name: str) -> str:
    path = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


class DnsNetwork:
    """An authoritative server and a validating, recursive one, both on 127.0.0.1."""

    def __init__(
        self,
        folder: Path,
        zones: Mapping[str, str],
        *,
        signed: Iterable[str] = (),
        bogus: Iterable[str] = (),
        dead: Iterable[str] = (),
        port: int | None = None,
    ) -> None:
        """``zones``: by name, lines of a zone file (``mx A 127.0.3.1``; SOA and NS are added).

        ``signed`` ones get DNSSEC; ``bogus`` ones too, but with signatures that expired; of ``dead`` ones no server
        knows anything (SERVFAIL). Reverse zones (``127.in-addr.arpa``) are zones like others. ``port`` is the
        resolver's: 53 for programs that read /etc/resolv.conf.
        """
        self.folder = folder / "dns"
        self.folder.mkdir(parents=True)
        self._signed, self._bogus, self._dead = set(signed), set(bogus), set(dead)
        self._zones = dict(zones)
        self._keys = {zone: _key() for zone in self._signed | self._bogus}
        self._serial = 1
        self.port, self._nsd_port, self._control_port = (_free_port() for _ in range(3))
        self.port = port or self.port
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def resolver(self) -> str:
        """For ``[resolver] addresses``: what it says about DNSSEC is believed, for it is on loopback."""
        return f"127.0.0.1#{self.port}"

    def __enter__(self) -> "DnsNetwork":
        nsd, unbound = _program("nsd"), _program("unbound")
        for zone in self._zones:
            self._write_zone(zone)
        self._write_nsd()
        self._write_unbound()
        try:
            for command in ([nsd, "-d", "-c", "nsd.conf"], [unbound, "-d", "-c", "unbound.conf"]):
                with (self.folder / f"{Path(command[0]).name}.out").open("wb") as out:
                    self._processes.append(subprocess.Popen(command, cwd=self.folder, stdout=out, stderr=out))
            self._await(self._nsd_port, next(iter(self._zones), "."))
            self._await(self.port, "ready.test-network")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def change(self, zone: str, text: str) -> None:
        """Give a zone other records; they are to be seen when this returns."""
        self._zones[zone] = text
        self._serial += 1
        self._write_zone(zone)
        self._processes[0].send_signal(signal.SIGHUP)
        give_up = time.monotonic() + START_S
        while self._soa_serial(zone) != self._serial:
            assert time.monotonic() < give_up, "nsd does not take the zone"
            time.sleep(0.02)
        control = [_program("unbound-control"), "-c", "unbound.conf", "flush_zone", zone]
        subprocess.run(control, cwd=self.folder, check=True, capture_output=True)

    def ask(self, name: str, kind: str) -> dns.message.Message:
        """What the resolver says to a question with DO set."""
        question = dns.message.make_query(name, kind, want_dnssec=True)
        return dns.query.tcp(question, "127.0.0.1", port=self.port, timeout=10)

    def _soa_serial(self, zone: str) -> int:
        answer = dns.query.udp(dns.message.make_query(zone, "SOA"), "127.0.0.1", port=self._nsd_port, timeout=5)
        return next((int(record.serial) for rrset in answer.answer for record in rrset), 0)

    def _await(self, port: int, name: str) -> None:
        give_up = time.monotonic() + START_S
        while time.monotonic() < give_up:
            dead = [one.args for one in self._processes if one.poll() is not None]
            assert not dead, f"{dead} ended: {self._outputs()}"
            try:
                dns.query.tcp(dns.message.make_query(name, "SOA"), "127.0.0.1", port=port, timeout=1)
                return
            except (OSError, EOFError, dns.exception.DNSException):
                time.sleep(0.02)
        raise AssertionError(f"no DNS server at port {port}: {self._outputs()}")

    def _outputs(self) -> str:
        return "".join(path.read_text() for path in self.folder.glob("*.out"))

    def _write_zone(self, name: str) -> None:
        text = _SOA.replace("hostmaster 1 ", f"hostmaster {self._serial} ") + self._zones[name] + "\n"
        zone = dns.zone.from_text("$TTL 300\n" + text, origin=name, relativize=False)
        if name in self._keys:
            key = self._keys[name]
            dnskey = dns.dnssec.make_dnskey(key.public_key(), dns.dnssec.Algorithm.ECDSAP256SHA256, flags=257)
            now = int(time.time())
            expires = now - 7200 if name in self._bogus else now + 7 * 86400
            dns.dnssec.sign_zone(zone, keys=[(key, dnskey)], dnskey_ttl=300, inception=now - 10800, expiration=expires)
            ds = dns.dnssec.make_ds(dns.name.from_text(name), dnskey, "SHA256")
            (self.folder / f"{name}.anchor").write_text(f"{name}. 300 IN DS {ds}\n")
        zone.to_file(str(self.folder / f"{name}.zone"), relativize=False)

    def _write_nsd(self) -> None:
        served = "".join(f'zone:\n name: "{one}"\n zonefile: "{one}.zone"\n' for one in self._zones)
        (self.folder / "nsd.conf").write_text(
            f'server:\n ip-address: 127.0.0.1@{self._nsd_port}\n username: ""\n chroot: ""\n'
            f' zonesdir: "{self.folder}"\n pidfile: "{self.folder}/nsd.pid"\n xfrdfile: "{self.folder}/xfrd"\n'
            f' xfrdir: "{self.folder}"\n zonelistfile: "{self.folder}/zone.list"\n database: ""\n'
            f" server-count: 1\n reuseport: no\n rrl-ratelimit: 0\nremote-control:\n control-enable: no\n{served}"
        )

    def _write_unbound(self) -> None:
        known = [*self._zones, *self._dead]
        # nsd does not serve the dead ones. Everything else is NXDOMAIN by the resolver itself: no packet leaves here.
        open_zones = "".join(f' local-zone: "{zone}." transparent\n' for zone in known)
        anchors = "".join(f' trust-anchor-file: "{zone}.anchor"\n' for zone in self._keys)
        stubs = "".join(f'stub-zone:\n name: "{zone}"\n stub-addr: 127.0.0.1@{self._nsd_port}\n' for zone in known)
        (self.folder / "unbound.conf").write_text(
            f'server:\n interface: 127.0.0.1@{self.port}\n username: ""\n chroot: ""\n directory: "{self.folder}"\n'
            f' pidfile: "{self.folder}/unbound.pid"\n use-syslog: no\n do-not-query-localhost: no\n num-threads: 1\n'
            ' do-ip6: no\n ede: yes\n val-log-level: 2\n module-config: "validator iterator"\n root-hints: ""\n'
            f' infra-host-ttl: 1\n local-zone: "." static\n{open_zones}{anchors}'
            "remote-control:\n control-enable: yes\n control-use-cert: no\n control-interface: 127.0.0.1\n"
            f" control-port: {self._control_port}\n{stubs}"
        )


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def tlsa(certificate_der_or_key: bytes, *, usage: int = 3, selector: int = 1) -> str:
    """A TLSA record with matching type 1 (SHA-256) over the octets that the selector names."""
    return f"{usage} {selector} 1 {sha256(certificate_der_or_key).hexdigest()}"
