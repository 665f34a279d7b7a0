"""A real Postfix as another server, for tests: it relays everything that it is given to one port of ours."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from daemon import Daemon
from postfix import Postfix, service, why_not
from receiving_support import open_folder


@contextmanager
def running_postfix(daemon: Daemon, *settings: str, port: int | None = None) -> Iterator[Postfix]:
    """It proves the daemon; ``settings`` are further lines of ``main.cf``. On ``port`` it takes mail too."""
    if reason := why_not():
        pytest.skip(reason)
    relaying = (
        "myhostname = partner.example",
        f"relayhost = [localhost]:{daemon.ports['smtp']}",
        "smtp_tls_security_level = secure",
        f"smtp_tls_CAfile = {daemon.ca_file}",
        "smtp_tls_loglevel = 1",
        "smtp_tls_secure_cert_match = hostname",
        "smtp_tls_mandatory_protocols = >=TLSv1.2",
        "smtp_host_lookup = native",
        "maximal_backoff_time = 1s",
        "minimal_backoff_time = 1s",
    )
    services = [] if port is None else [service(f"127.0.0.1:{port}")]
    with open_folder() as folder, Postfix(folder, [*relaying, *settings], services) as running:
        yield running
