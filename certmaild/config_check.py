"""What `certmaild config check` says beside what reading raises, and what a running server takes of a new file."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

from certmaild.client_setup.names import served_names
from certmaild.config import again
from certmaild.config_values import Config, Invites, Listen
from certmaild.dkim.key_files import KeyFiles
from certmaild.keystore.certificates import certificates_in
from certmaild.keystore.errors import CertificateUnfit, SignatureKeyUnfit
from certmaild.keystore.tls import CertificateFiles, read_identity, unserved, warnings
from certmaild.keystore.tls_values import authorities_pem
from certmaild.partners.record import PartnerRecord


@dataclass(frozen=True, slots=True)
class Findings:
    """What is wrong, and what is worth knowing, in sentences."""

    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def check(config: Config) -> Findings:
    """Look at the files that the configuration names: certificates and keys must be readable and match."""
    problems, noted = [], []
    if not config.store.exists():
        noted.append(f"there is no store in {config.data} yet; certmaild init makes one.")
    for files in (config.tls.default, *config.tls.names):
        if config.tls.private and files is config.tls.default and not files.certificate.exists():
            noted.append("there is no certificate yet; certmaild init makes one, by an authority of our own.")
            continue
        try:
            read_identity(files)
            noted += [one + "." for one in warnings(files, files.name or config.hostname)]
        except CertificateUnfit as unfit:
            problems.append(f"{unfit}.")
    if not problems:
        noted += _of_clients(config)
    try:
        KeyFiles(config.data).pairs()
    except SignatureKeyUnfit as unfit:
        problems.append(f"{unfit}.")
    for record in config.partners:
        problems += [f"partner {record.domain}: {one}." for one in _partner_problems(record)]
    secret = config.outbound.smart_host_password_file
    if secret is not None and not os.access(secret, os.R_OK):
        problems.append(f"the smart host's password cannot be read from {secret}.")
    if config.invite.domain is None and config.invite != Invites():
        noted.append("[invite] names no domain, so there are no guests, and its other keys do nothing.")
    command = config.invite.code_command
    if command and shutil.which(command[0]) is None:
        problems.append(f"the code command {command[0]} is no program that can be run.")
    if not config.listen.ports():
        problems.append("no listener is on: the table [listen] names no port.")
    if config.data == config.secrets:
        problems.append("the secrets must not lie in the data directory itself.")
    if config.secrets.is_relative_to(config.store):
        problems.append("the secrets must not lie inside the store.")
    return Findings(tuple(problems), tuple(noted))


def _of_clients(config: Config) -> Iterator[str]:
    """What mail programs look for and will not trust, or not find."""
    if config.tls.private:
        if config.invite.domain is not None:
            yield (
                "guests' devices do not know our own authority, and their mail programs find no server without it: a "
                "certificate by a public one ([tls] certificate) spares each guest the import of ca.pem."
            )
        return
    lacking = unserved(config.tls.default, config.tls.names, served_names(config)[1:])
    if lacking:
        yield (
            f"no certificate is for {', '.join(lacking)}, which mail programs look for: they find the server only by "
            "the settings that certmaild setup shows."
        )


def _partner_problems(record: PartnerRecord) -> Iterator[str]:
    """What is wrong with the files that his record names."""
    if isinstance(record.ca, Path):
        try:
            certificates_in(authorities_pem(record.ca))
        except (OSError, ValueError):
            yield f"the file {record.ca} holds no certificates (PEM) that can be read"
    if record.client is not None:
        try:
            read_identity(CertificateFiles(record.client.certificate, record.client.key))
        except CertificateUnfit as unfit:
            yield str(unfit)


def restart_keys(old: Config, new: Config) -> list[str]:
    """The keys whose change counts only after a restart: where the data is, the sockets, the number of processes."""
    changed = [name for name in ("data", "secrets", "workers") if _differs(old, new, name)]
    return changed + [f"listen.{one.name}" for one in fields(Listen) if _differs(old.listen, new.listen, one.name)]


def taken_over(old: Config, new: Config) -> Config:
    """What a running server makes of a new configuration: all but the `restart_keys`. Raises `ConfigError`."""
    config = again(new.path, new.text, old.data)
    return replace(config, secrets=old.secrets, workers=old.workers, listen=old.listen)


def _differs(old: object, new: object, name: str) -> bool:
    return bool(getattr(old, name) != getattr(new, name))
