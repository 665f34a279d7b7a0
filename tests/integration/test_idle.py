"""Many idle IMAPS clients, in processes of their own: what each costs, and how soon each is told of new mail."""

import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from figures import percentiles_ms
from idle import idling, prepare, watch_deliveries

ALLOWED_KIB = 90
ALLOWED_COMPRESSED_KIB = 130


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """A generator's own descriptors; the daemon sees to its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 6000
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip("too few file descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def latencies_ms(
    folder: Path,
    clients: int,
    accounts: int,
    *,
    messages: int = 20,
    compress: bool = False,
    silence_s: int = 3,
    deliveries: int = 20,
) -> dict[str, float]:
    """From 250 to EXISTS, after memory and silence were looked at; every client hears of his own mail and no other."""
    daemon, owners = prepare(folder, accounts, messages, clients)
    with daemon.start():
        before = daemon.anonymous_kib()
        allowed = ALLOWED_COMPRESSED_KIB if compress else ALLOWED_KIB
        with idling(daemon, owners, clients, compress=compress) as generators:
            assert (daemon.anonymous_kib() - before) / clients < allowed
            cpu = daemon.cpu_s()
            time.sleep(silence_s)
            assert daemon.cpu_s() - cpu < 0.05 * silence_s
            times = watch_deliveries(daemon, generators, owners, clients, deliveries)
            assert len(times) >= deliveries * (clients // accounts)
            assert (daemon.anonymous_kib() - before) / clients < allowed
            return percentiles_ms(times)


@pytest.mark.parametrize("compress", [False, True])
def test_idle_clients_are_cheap_and_told_at_once(tmp_path: Path, compress: bool) -> None:
    assert latencies_ms(tmp_path, 300, 50, compress=compress)["p50_ms"] < 100


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_2_000_idle_clients_are_told_within_100_ms(tmp_path: Path) -> None:
    times = latencies_ms(tmp_path, 2000, 1000, silence_s=120, deliveries=1000)
    assert times["p50_ms"] < 15
    assert times["p99_ms"] < 100


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("compress", [False, True])
def test_5_000_idle_clients(tmp_path: Path, compress: bool) -> None:
    latencies_ms(tmp_path, 5000, 1000, compress=compress, silence_s=120)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_400_mailboxes_with_a_client_each_and_mail_for_all(tmp_path: Path) -> None:
    latencies_ms(tmp_path, 400, 400, messages=100, deliveries=1600)
