"""The real daemon behind real TLS, once for all tests of this folder; each test has its own account."""

import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from daemon import Account, Daemon

numbers = count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here starts `twistd`."""
    here = Path(__file__).parent
    for item in items:
        if here in Path(item.fspath).parents:
            item.add_marker("integration")


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A running certmaild for ``example.com``."""
    with Daemon(tmp_path_factory.mktemp("daemon")) as running:
        yield running


@pytest.fixture
def account(daemon: Daemon) -> Account:
    """A new member with a device password."""
    return daemon.add_user(f"user{next(numbers)}")


@pytest.fixture
def program() -> Callable[[str], str]:
    """The path of a client, or a skip that says which package is missing."""

    def find(name: str) -> str:
        path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
        if path is None:
            pytest.skip(f"{name} is not installed")
        return path

    return find
