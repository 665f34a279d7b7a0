"""A house with guests for tests: the real daemon, a member, and a Postfix at the guests' ordinary addresses."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
from daemon import Daemon
from enrol import Pickup, invite
from guest_world import ORDINARY, GuestWorld, Post, guest_world
from person import Person
from postfix import why_not

_numbers = count(1)


@dataclass
class GuestHouse:
    """What runs."""

    world: GuestWorld
    daemon: Daemon
    member: Person
    spare: list[Person] = field(default_factory=list)

    @property
    def post(self) -> Post:
        return self.world.post

    @staticmethod
    def stranger(name: str = "guest") -> str:
        """An ordinary address that nobody has written to."""
        return f"{name}{next(_numbers)}@{ORDINARY}"

    def new_member(self) -> Person:
        """Another one; several are made at once, for starting the command is the cost."""
        if not self.spare:
            names = [f"member{next(_numbers)}" for _ in range(8)]
            self.spare = [Person(self.daemon, one) for one in self.daemon.add_users(names)]
        return self.spare.pop()

    def invited(self, name: str = "guest") -> Pickup:
        """A new guest, as his sender's INBOX tells of him."""
        return invite(self.member, self.stranger(name))


@contextmanager
def running_world() -> Iterator[GuestWorld]:
    """The world around daemons, or a skip."""
    if reason := why_not():
        pytest.skip(reason)
    # A short name: Postfix's sockets lie below.
    with tempfile.TemporaryDirectory(prefix="guests", dir="/tmp") as folder, guest_world(Path(folder)) as world:
        yield world


@contextmanager
def guest_house(world: GuestWorld, folder: Path, *, workers: int = 0, **tables: str) -> Iterator[GuestHouse]:
    """A daemon in that world; ``tables`` as `GuestWorld.tables` takes them."""
    with Daemon(folder, workers=workers, tables=world.tables(**tables)) as daemon:
        yield GuestHouse(world, daemon, Person(daemon, daemon.add_user("ann")))
