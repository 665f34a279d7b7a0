"""A guest's way in, by the stop-watch: `enrol.py [--users N] [--workers N]`.

A member writes to somebody who has never heard of certmaild; that person reads, answers, adds a second device by mail
and revokes it again. Prints the seconds of each step, over real TLS, with a Postfix that takes the notice (root and the
package postfix are needed). With ``--users`` N guests are enrolled from a bare machine instead: a new virtual
environment, `pip install` of this checkout, `certmaild init`, a member, N guests invited by one message.
"""

import re
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

from daemon import Daemon
from figures import print_figure, wish
from guest_world import ORDINARY, GuestWorld, guest_world
from person import DEVICE_PASSWORD, PICKUP_CODE, Person, reply_to, text_of
from programs import environment
from server import Account

URI = re.compile(r"(?i)[a-z][a-z0-9+.-]*://|\bwww\.|\bmailto:")
"""What no word that the server writes may hold."""
ENDS_WITHIN_S = 1.0
"""A session whose device was revoked."""


@contextmanager
def step(name: str) -> Iterator[None]:
    """Print how long it took."""
    begun = time.perf_counter()
    yield
    print_figure("enrol", step=name, wall_s=time.perf_counter() - begun)


def check(holds: object, what: str) -> None:
    """Stop where something is not as it should be."""
    if not holds:
        raise SystemExit(f"enrol.py: {what}")


@dataclass(frozen=True, slots=True)
class Pickup:
    """What the sender reads about a guest."""

    ordinary: str
    account: str
    code: str
    message: EmailMessage


def pickup_of(message: EmailMessage) -> Pickup | None:
    """Of a message that shows a code; None for any other."""
    ordinary = message["Certmaild-Invite"]
    lines = dict(
        line.split(": ", 1) for line in text_of(message).splitlines() if line.startswith(("Code: ", "Account: "))
    )
    if ordinary is None or len(lines) < 2:
        return None
    return Pickup(str(ordinary), lines["Account"].strip(), lines["Code"].strip(), message)


def await_pickup(sender: Person, ordinary: str) -> Pickup:
    """What the sender's own INBOX says about the guest, once it is there."""
    return pickup_of(sender.wait_for(lambda one: (told := pickup_of(one)) and told.ordinary == ordinary)) or _never()


def _never() -> Pickup:
    raise AssertionError


def invite(member: Person, ordinary: str, subject: str = "Your results", body: str = "They are normal.\n") -> Pickup:
    """Write to somebody unknown; what one's own INBOX says of him then."""
    member.submit(ordinary, Subject=subject, body=body)
    return await_pickup(member, ordinary)


def first_log_in(member: Person, pickup: Pickup) -> Person:
    """The guest with the code, as his mail program has him."""
    return Person(member.server, Account(pickup.account, pickup.code))


def own_password(guest: Person) -> str:
    """The device password that a new guest's first session finds."""
    return password_of(guest.wait_for(lambda one: DEVICE_PASSWORD.search(text_of(one))))


def password_of(message: EmailMessage) -> str:
    """The device password that a message of the server's shows."""
    found = DEVICE_PASSWORD.search(text_of(message))
    check(found, f"no password in: {text_of(message)}")
    assert found is not None
    return found.group()


def join(member: Person, pickup: Pickup) -> Person:
    """The guest with his own device password, which he has used."""
    guest = first_log_in(member, pickup)
    guest = guest.with_password(own_password(guest))
    guest.messages()
    return guest


def is_let_in(person: Person) -> bool:
    """Whether IMAP takes his password."""
    client = person.imap_connection()
    try:
        client.login(person.account.address, person.account.password)
    except client.error:
        return False
    finally:
        client.shutdown()
    return True


class Idle:
    """A session in IDLE on a connection of its own."""

    def __init__(self, person: Person) -> None:
        bare = socket.create_connection(("localhost", person.server.ports["imaps"]), timeout=60)
        self.tls: ssl.SSLSocket = person.server.tls_context().wrap_socket(bare, server_hostname="localhost")
        self._stream = self.tls.makefile("rb")
        self._ask(f'a LOGIN "{person.account.address}" "{person.account.password}"', b"a OK")
        self._ask("b SELECT INBOX", b"b OK")
        self._ask("c IDLE", b"+")

    def _ask(self, text: str, answer: bytes) -> None:
        self.tls.sendall(text.encode() + b"\r\n")
        while not (line := self._stream.readline()).startswith(answer):
            check(line and not line.startswith((b"a NO", b"a BAD")), f"{text.split()[1]}: {line!r}")

    def await_end(self) -> float:
        """When the server closed the connection (monotonic)."""
        try:
            for _ in self._stream:
                pass
            return time.monotonic()
        finally:
            self._stream.close()
            self.tls.close()


def no_uri(message: EmailMessage) -> None:
    """The law of all words of the server's own: no URI, no HTML."""
    for part in message.walk():
        check(part.get_content_type() != "text/html", "a letter of the server's holds HTML")
    found = URI.search(text_of(message))
    check(not found, f"a letter of the server's holds a link: {found}")


def one_guest(world: GuestWorld, member: Person) -> None:
    """The whole journey of one."""
    bob = f"bob@{ORDINARY}"
    began = time.perf_counter()
    with step("a member submits to an unknown address"):
        member.submit(bob, Subject="Your results", body="They are normal.\n")
    with step("the code is in the member's INBOX"):
        pickup = await_pickup(member, bob)
    check(PICKUP_CODE.fullmatch(pickup.code), "the code has not its form")
    no_uri(pickup.message)
    with step("the notice is at the ordinary address"):
        (notice,) = world.post.wait_for(bob)
    no_uri(notice)
    check(pickup.code not in str(notice), "the notice holds the code")
    check(pickup.account in text_of(notice), "the notice does not name the account")

    guest = first_log_in(member, pickup)
    with step("he logs in with the code by IMAP and reads"):
        guest.wait_for(lambda one: one["Subject"] == "Your results")
    with step("he logs in with the code by POP3 and reads"):
        check(
            any(one["Subject"] == "Your results" for one in guest.messages_by_pop3()), "POP3 does not show the message"
        )
    with step("he takes his own password and logs in with it"):
        own = guest.with_password(own_password(guest))
        letter = own.wait_for(lambda one: one["Subject"] == "Your results")
    check(not is_let_in(guest), "the code still opens the mailbox")
    with step("he answers and the member reads it"):
        own.submit(member.address, body="Thank you.\n", **reply_to(letter))
        member.wait_for(lambda one: one["Subject"] == "Re: Your results")
    print_figure(
        "enrol", step="all, from the member's message to his reading the answer", wall_s=time.perf_counter() - began
    )

    with step("he adds a phone by mail and reads its password"):
        devices = f"devices@{member.address.rpartition('@')[2]}"
        own.submit(devices, Subject="add phone")
        answer = own.wait_for(
            lambda one: (found := DEVICE_PASSWORD.search(text_of(one))) and found.group() != own.account.password
        )
    no_uri(answer)
    phone = own.with_password(password_of(answer))
    with step("the phone logs in and idles"):
        idle = Idle(phone)
    ended_s = time_to_end(own, [idle])
    print_figure("enrol", step="from the deletion of its message to the end of its session", wall_s=ended_s)
    check(ended_s < ENDS_WITHIN_S, "the session of a revoked device goes on")
    check(not is_let_in(phone), "the phone's password still opens the mailbox")


def time_to_end(own: Person, idles: Sequence[Idle], device: str = "phone") -> float:
    """Delete the message of a device; in how many seconds its last session ended."""
    own.wait_for(lambda one: device in str(one["Subject"]), "Devices")
    with ThreadPoolExecutor(len(idles)) as pool:
        ends = [pool.submit(idle.await_end) for idle in idles]
        begun = own.remove(lambda one: device in str(one["Subject"]), "Devices")
        return max(end.result() for end in ends) - begun


# Many, from a bare machine.


def bare_machine(users: int) -> None:
    """Make an environment, install this checkout in it, and go on with its Python."""
    root = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory(prefix="bare", dir="/tmp") as folder:
        own = Path(folder) / "venv"
        began = time.perf_counter()
        with step("python3 -m venv .venv"):
            subprocess.run([sys.executable, "-m", "venv", str(own)], check=True)
        with step("pip install ."):
            done = subprocess.run(
                [str(own / "bin" / "pip"), "install", "-q", str(root)], capture_output=True, check=False
            )
            check(done.returncode == 0, done.stderr.decode())
        words = [str(own / "bin" / "python"), __file__, "--users", str(users), "--since", str(began)]
        raise SystemExit(subprocess.run(words, check=False, env=environment()).returncode)


def many_guests(world: GuestWorld, member: Person, users: int) -> None:
    """Invite them by one message, and see each read."""
    guests = [f"guest{number}@{ORDINARY}" for number in range(users)]
    with step(f"one message to {users} unknown addresses"):
        member.submit(*guests, Subject="Welcome", body="Read me.\n")
    with step("all codes are in the member's INBOX"):
        pickups = [await_pickup(member, guest) for guest in guests]
    with step("all notices are at the ordinary addresses"):
        for guest in guests:
            world.post.wait_for(guest)
    times = []
    with step("each logs in with his code, takes his own password, reads"):
        for pickup in pickups:
            begun = time.perf_counter()
            guest = join(member, pickup)
            guest.wait_for(lambda one: one["Subject"] == "Welcome")
            times.append(time.perf_counter() - begun)
    print_figure("enrol", step="the slowest of them", wall_s=max(times))


def main() -> None:
    """One guest's journey, or many guests from nothing."""
    users, workers = wish("users", 0), wish("workers", 0)
    since = sys.argv[sys.argv.index("--since") + 1] if "--since" in sys.argv else ""
    if users and not since:
        bare_machine(users)
        return
    # A short name: Postfix's sockets lie below.
    with tempfile.TemporaryDirectory(prefix="enrol", dir="/tmp") as folder, guest_world(Path(folder)) as world:
        daemon = Daemon(Path(folder) / "daemon", workers=workers, tables=world.tables())
        with step("certmaild init"):
            daemon.set_up()
        with step("certmaild user add"):
            member = Person(daemon, daemon.add_user("ann"))
        with step("twistd certmaild"):
            daemon.start()
        try:
            if users:
                many_guests(world, member, users)
                print_figure("enrol", step="all, from nothing", users=users, wall_s=time.perf_counter() - float(since))
            else:
                one_guest(world, member)
        finally:
            daemon.stop()


if __name__ == "__main__":
    main()
