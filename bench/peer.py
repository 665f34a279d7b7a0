"""Debian's Postfix and Dovecot, to compare with: `bench/peer.py up|down DIR [--crypt] [--hibernate]`.

Everything lies in files under DIR that this module writes: configuration, queue, mail, logs, the certificate of an
authority of its own. No service of the system is started or touched; main.cf and master.cf in /etc/postfix and all of
/etc/dovecot are not read. It needs root (Postfix insists on its users) and the packages postfix, dovecot-imapd,
dovecot-pop3d, dovecot-lmtpd.

How it is set, where that bears on a figure:

- mdbox, zstd (Dovecot's default level), `mail_fsync = always`; Postfix takes mail by SMTP with STARTTLS and hands it
  to Dovecot by LMTP. IMAPS, POP3S, submission; passwords are bcrypt 10.
- Each user has a uid of his own: with one for all, the kernel's default of 128 inotify instances a uid would leave most
  of 500 idle sessions to look for mail every 30 seconds.
- Login processes in Dovecot's "high-performance" mode (one for many connections), which costs less CPU and memory than
  Debian's default of one each. Everything else that is not a limit stays at its default.
- With `--crypt`, `mail_crypt` with a key for each user and folder, of curve prime256v1. The user's private key lies
  encrypted with the password given at login; LMTP seals to the public key. `mail_crypt` covers the stored
  messages, not the index: its cache holds subjects, senders and structure in clear text, as does Postfix's queue.
- With `--hibernate`, idle IMAP connections are handed to `imap-hibernate` after a second.
"""

import argparse
import datetime
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import bcrypt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from postfix import Postfix, open_the_way, service
from server import LISTENERS, STOP_TIME_S, Account, Server, free_ports
from usage import Meter

NEEDED = (
    Path("/usr/sbin/postfix"),
    Path("/usr/sbin/dovecot"),
    Path("/usr/lib/dovecot/imap"),
    Path("/usr/lib/dovecot/pop3"),
    Path("/usr/lib/dovecot/lmtp"),
)
FIRST_UID = 200_000
MAIL_GID = 8
"""Debian's group `mail`."""
BCRYPT_COST = 10
FOLDER_CHARACTERS = 65
USERS_READ_S = 1.2
"""Dovecot looks at most once a second whether its file of users has changed."""
PASSWORD = "correct horse battery staple"

SUBMISSION = ("smtpd_sasl_auth_enable=yes", "smtpd_relay_restrictions=permit_sasl_authenticated,reject")

DOVECOT_CONF = """\
base_dir = {run}
state_dir = {state}
instance_name = certmaild-bench
log_path = {log}
protocols = imap pop3 lmtp
listen = 127.0.0.1
ssl = required
ssl_cert = <{certificate}
ssl_key = <{key}
auth_mechanisms = plain login
disable_plaintext_auth = yes
mail_location = mdbox:~/mdbox
mail_fsync = always
mail_plugins = zlib{plugins}
mail_attribute_dict = file:%h/attributes
mail_max_userip_connections = 100000
default_vsz_limit = 4G
first_valid_uid = 1
first_valid_gid = 1
protocol lmtp {{
  postmaster_address = postmaster@{domain}
}}
imap_hibernate_timeout = {hibernate}
plugin {{
  zlib_save = zstd
{plugin_settings}}}
namespace inbox {{
  inbox = yes
  separator = /
}}
passdb {{
  driver = passwd-file
  args = username_format=%u {users}
  override_fields = {login_fields}
}}
userdb {{
  driver = prefetch
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {users}
}}
service imap-login {{
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
  service_count = 0
  process_min_avail = 2
  client_limit = 10000
}}
service pop3-login {{
  inet_listener pop3 {{
    port = 0
  }}
  inet_listener pop3s {{
    port = {pop3s}
    ssl = yes
  }}
  service_count = 0
  client_limit = 10000
}}
service imap {{
  process_limit = 10000
  extra_groups = $default_internal_group
  unix_listener imap-master {{
    user = $default_internal_user
  }}
}}
service imap-hibernate {{
  client_limit = 10000
  unix_listener imap-hibernate {{
    mode = 0660
    group = $default_internal_group
  }}
}}
service anvil {{
  client_limit = 20000
}}
service auth {{
  client_limit = 20000
  unix_listener auth-postfix {{
    mode = 0660
    user = postfix
    group = postfix
  }}
}}
service lmtp {{
  unix_listener lmtp {{
    mode = 0600
    user = postfix
    group = postfix
  }}
}}
service stats {{
  client_limit = 20000
}}
"""

CRYPT_SETTINGS = """\
  mail_crypt_curve = prime256v1
  mail_crypt_save_version = 2
  mail_crypt_require_encrypted_user_key = yes
"""


def why_not() -> str | None:
    """What is missing for a peer to run here, in words."""
    if os.geteuid() != 0:
        return "Postfix starts as root only"
    missing = [str(path) for path in NEEDED if not path.exists()]
    if missing:
        return f"{', '.join(missing)} missing: apt-get install postfix dovecot-imapd dovecot-pop3d dovecot-lmtpd"
    return None


@dataclass
class Peer(Server):
    """Postfix and Dovecot over ``folder``."""

    readable_at_250 = False

    crypt: bool = False
    hibernate: bool = False

    def set_up(self) -> "Peer":
        """Write certificate and configuration."""
        reason = why_not()
        if reason is not None:
            raise RuntimeError(reason)
        if len(str(self.folder)) > FOLDER_CHARACTERS:
            raise RuntimeError(f"{self.folder} is too long for the names of Unix sockets in it: use a shorter one")
        self.folder.mkdir(parents=True, exist_ok=True)
        open_the_way(self.folder)
        for name in ("postfix", "dovecot", "mail"):
            (self.folder / name).mkdir(exist_ok=True)
        (self.folder / "mail").chmod(0o1777)
        if not self.ports:
            self.ports = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True))
            write_certificate(self.folder)
        self._write_configuration()
        return self

    def _write_configuration(self) -> None:
        postfix, dovecot = self.folder / "postfix", self.folder / "dovecot"
        common = {"certificate": self.folder / "server.pem", "key": self.folder / "server.key", "domain": self.domain}
        settings = (
            "myhostname = localhost",
            f"virtual_mailbox_domains = {self.domain}",
            f"virtual_mailbox_maps = hash:{postfix}/recipients",
            f"virtual_transport = lmtp:unix:{dovecot}/run/lmtp",
            f"smtpd_tls_cert_file = {common['certificate']}",
            f"smtpd_tls_key_file = {common['key']}",
            "smtpd_tls_security_level = may",
            "smtpd_tls_auth_only = yes",
            "smtpd_sasl_type = dovecot",
            f"smtpd_sasl_path = {dovecot}/run/auth-postfix",
        )
        at = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        services = (
            service(at["smtp"]),
            service(at["submission"], "smtpd_tls_security_level=encrypt", *SUBMISSION),
            service(at["submissions"], "smtpd_tls_wrappermode=yes", *SUBMISSION),
        )
        Postfix(postfix, settings, services).set_up()
        (dovecot / "users").touch(mode=0o644)
        (postfix / "recipients").touch(mode=0o644)
        self._index_recipients()
        (dovecot / "dovecot.conf").write_text(
            DOVECOT_CONF.format(
                **common,
                **self.ports,
                run=dovecot / "run",
                state=dovecot / "state",
                log=dovecot / "log",
                users=dovecot / "users",
                plugins=" mail_crypt" if self.crypt else "",
                plugin_settings=CRYPT_SETTINGS if self.crypt else "",
                login_fields="userdb_mail_crypt_private_password=%w" if self.crypt else "",
                hibernate="1 s" if self.hibernate else 0,
            )
        )

    def _index_recipients(self) -> None:
        words = ["postmap", "-c", str(self.folder / "postfix"), str(self.folder / "postfix/recipients")]
        subprocess.run(words, check=True)

    def _save(self) -> None:
        assert self.meter is not None
        state = {
            "ports": self.ports,
            "crypt": self.crypt,
            "hibernate": self.hibernate,
            "domain": self.domain,
            "ca_file": str(self.ca_file),
            "group": str(self.meter.folder) if self.meter.folder else None,
        }
        (self.folder / "peer.json").write_text(json.dumps(state))

    @classmethod
    def at(cls, folder: Path) -> "Peer":
        """The peer that an earlier process brought up in ``folder``."""
        state = json.loads((folder / "peer.json").read_text())
        group = state["group"]
        peer = cls(folder, state["domain"], state["ports"], crypt=state["crypt"], hibernate=state["hibernate"])
        peer.meter = Meter(Path(group)) if group else Meter()
        peer.meter.roots = peer._masters()
        return peer

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    def add_users(self, names: list[str]) -> list[Account]:
        """Make ``name@domain`` for each, all with one password; with mail_crypt, each with its own key pair."""
        made = [Account(f"{name}@{self.domain}", PASSWORD) for name in names]
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(BCRYPT_COST)).decode()
        known = len((self.folder / "dovecot/users").read_text().splitlines())
        with (self.folder / "dovecot/users").open("a") as users:
            for uid, one in enumerate(made, FIRST_UID + known):
                home = self.folder / "mail" / one.address
                fields = f"userdb_uid={uid} userdb_gid={MAIL_GID} userdb_home={home}"
                users.write(f"{one.address}:{{BLF-CRYPT}}{hashed}:{uid}:{MAIL_GID}::{home}::{fields}\n")
        with (self.folder / "postfix/recipients").open("a") as recipients:
            recipients.writelines(f"{one.address} here\n" for one in made)
        self._index_recipients()
        if self.meter is not None:
            time.sleep(USERS_READ_S)
        if self.crypt:
            password = f"plugin/mail_crypt_private_password={PASSWORD}"
            for one in made:
                self._doveadm("-o", password, "mailbox", "cryptokey", "generate", "-u", one.address, "-U")
        return made

    def _doveadm(self, *words: str) -> None:
        command = ["doveadm", "-c", str(self.folder / "dovecot/dovecot.conf"), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}{done.stdout}")

    def start(self) -> "Peer":
        """Start both and wait until every listener answers."""
        self.meter = Meter()
        self._save()
        for words in (
            ["dovecot", "-c", str(self.folder / "dovecot/dovecot.conf")],
            ["postfix", "-c", str(self.folder / "postfix"), "start"],
        ):
            # A file, never a pipe: the daemons keep it open, and whoever reads the pipe would wait for their end.
            with (self.folder / "start.log").open("a+") as log:
                done = subprocess.run(
                    self.meter.wrap(words), stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
                )
            if done.returncode:
                raise RuntimeError(f"{' '.join(words)}: {(self.folder / 'start.log').read_text()}")
        self.meter.roots = self._masters()
        self._await_listeners(self._check_alive)
        return self

    def _check_alive(self) -> None:
        assert self.meter is not None
        if not self.meter.pids():
            log = (self.folder / "dovecot/log").read_text() + (self.folder / "start.log").read_text()
            raise RuntimeError(f"the peer ended: {log[-4000:]}")

    def _masters(self) -> list[int]:
        files = (self.folder / "dovecot/run/master.pid", self.folder / "postfix/queue/pid/master.pid")
        return [int(file.read_text()) for file in files if file.exists()]

    def stop(self) -> None:
        """End both; returns when every process has gone."""
        if self.meter is None:
            return
        for pid in self._masters():
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + STOP_TIME_S
        while (left := self.meter.pids()) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        self.meter.close()

    def __enter__(self) -> "Peer":
        return self.set_up().start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
"""Python 3.13 refuses an authority that does not say so."""


def write_certificate(folder: Path) -> None:
    """An authority and a certificate of ``localhost``, both P-256 like certmaild's own."""
    now = datetime.datetime.now(datetime.UTC)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "certmaild bench")])

    def build(name: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder(authority_name, name, public_key, x509.random_serial_number())
        return builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=30))

    authority = (
        build(authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(SIGNS_CERTIFICATES, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    certificate = (
        build(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")]), key.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    (folder / "server.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").touch(mode=0o600)
    (folder / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def main() -> None:
    """`up` leaves both running and prints how to reach them; `down` ends them and leaves the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["up", "down"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--crypt", action="store_true", help="with per-user mail_crypt")
    parser.add_argument("--hibernate", action="store_true", help="hand idle IMAP connections to imap-hibernate")
    wishes = parser.parse_args()
    folder = wishes.folder.resolve()
    if wishes.what == "down":
        Peer.at(folder).stop()
        return
    reason = why_not()
    if reason is not None:
        raise SystemExit(reason)
    if (folder / "peer.json").exists():
        raise SystemExit(f"{folder} holds a peer already: `down` it and remove the folder, or name another")
    peer = Peer(folder, crypt=wishes.crypt, hibernate=wishes.hibernate).set_up().start()
    account = peer.add_users(["ann"])[0]
    print(json.dumps({"address": account.address, "password": account.password, **peer.ports, "ca": str(peer.ca_file)}))


if __name__ == "__main__":
    main()
