"""The real daemon behind real TLS, once for all tests of this folder; each test has its own account."""

import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from daemon import Account, Daemon

numbers = count(1)
WITH_WORKERS_LONG = ("test_hostile_floods",)
"""What is about the turns within one process meets two workers in `tox -e long` only."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here starts `twistd`."""
    here = Path(__file__).parent
    for item in items:
        if here in Path(item.fspath).parents:
            item.add_marker("integration")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every client meets one process and two workers."""
    if "daemon" in metafunc.fixturenames:
        marks = pytest.mark.long if Path(metafunc.module.__file__ or "").stem in WITH_WORKERS_LONG else ()
        params = [pytest.param(0, id="alone"), pytest.param(2, id="workers", marks=marks)]
        metafunc.parametrize("daemon", params, indirect=True, scope="session")


@pytest.fixture(scope="session")
def daemon(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A running certmaild for ``example.com``, of one process or with workers."""
    with Daemon(tmp_path_factory.mktemp("daemon"), workers=request.param) as running:
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
