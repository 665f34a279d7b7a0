"""What an attacker does about guests, and what comes of it."""

import imaplib
import os
import random
import smtplib
import statistics
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from clients import Lines
from daemon import Daemon
from enrol import Pickup, await_pickup, first_log_in, is_let_in, join, own_password, pickup_of
from guest_support import GuestHouse, guest_house, running_world
from guest_world import GUESTS, ORDINARY, GuestWorld, recipient_of
from login import connect_from
from person import DEVICE_PASSWORD, NotThere, Person, reply_to, text_of

DOMAIN = "example.com"
SERVICES = ("devices", "help", "status", "settings", "invite")
WRONG_CODE = "0000-0000-0000-0000-0"
"""Of the right form, its check letter too."""


@pytest.fixture(scope="module")
def world() -> Iterator[GuestWorld]:
    with running_world() as running:
        yield running


@pytest.fixture(scope="module")
def house(world: GuestWorld, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuestHouse]:
    with guest_house(world, tmp_path_factory.mktemp("house")) as running:
        yield running


@contextmanager
def from_outside(house: GuestHouse) -> Iterator[smtplib.SMTP]:
    """Another server at port 25."""
    with smtplib.SMTP("localhost", house.daemon.ports["smtp"], timeout=60) as smtp:
        smtp.starttls(context=house.daemon.tls_context())
        smtp.ehlo("stranger.example")
        yield smtp


def answers_to_rcpt(client: smtplib.SMTP, sender: str, *to: str) -> list[tuple[int, str]]:
    """What RCPT is answered, one transaction each; the address itself left out."""
    answers = []
    for one in to:
        client.mail(sender)
        code, text = client.rcpt(one)
        answers.append((code, text.decode().replace(one, "ADDRESS")))
        client.rset()
    return answers


# Commands.


@pytest.mark.parametrize("domain", [DOMAIN, GUESTS])
def test_command_mails_from_port_25_are_refused(house: GuestHouse, domain: str) -> None:
    with from_outside(house) as smtp:
        for sender in (house.member.address, "bob@stranger.example", ""):
            answers = answers_to_rcpt(smtp, sender, *(f"{name}@{domain}" for name in SERVICES))
            assert {code for code, _ in answers} == {550}
            assert all(text.startswith("5.7.1 ") for _, text in answers)
            assert len(set(answers)) == 1


def test_a_forged_from_commands_nothing(house: GuestHouse) -> None:
    """The account that submitted is who commands, and a From that is not its own is refused."""
    mallory, victim = house.new_member(), house.new_member()
    devices = house.daemon.command("device", "list", victim.address)
    with pytest.raises(smtplib.SMTPDataError) as refused:
        mallory.submit(f"devices@{DOMAIN}", sender=victim.address, Subject="add phone")
    assert (refused.value.smtp_code, refused.value.smtp_error[:5]) == (550, b"5.7.1")
    with mallory.submission() as client, pytest.raises(smtplib.SMTPSenderRefused) as refused_sender:
        client.sendmail(victim.address, [f"devices@{DOMAIN}"], victim.letter(f"devices@{DOMAIN}", Subject="add phone"))
    assert refused_sender.value.smtp_code == 550
    assert house.daemon.command("device", "list", victim.address) == devices


def test_a_reply_to_names_nobody_else(house: GuestHouse) -> None:
    """The answer with a password goes to the account, wherever Reply-To and Sender would have it."""
    own, other = join(house.member, house.invited()), house.new_member()
    before = len(other.messages())
    own.submit(f"devices@{DOMAIN}", Subject="add phone", Reply_To=other.address)
    own.wait_for(lambda one: "add phone" in str(one["Subject"]))
    assert len(other.messages()) == before


def test_an_answer_to_a_stranger_commands_nothing(house: GuestHouse) -> None:
    """His letter asks for answers to devices@, under a subject that is a command; whoever answers wrote none."""
    victim = house.new_member()
    trap = f"From: Aunt <aunt@stranger.example>\r\nTo: {victim.address}\r\nReply-To: devices@{DOMAIN}\r\n"
    trap += "Subject: add phone\r\nMessage-ID: <trap@stranger.example>\r\n\r\nadd phone\r\n"
    with from_outside(house) as smtp:
        smtp.sendmail("aunt@stranger.example", [victim.address], trap.encode())
    letter = victim.wait_for(lambda one: one["Subject"] == "add phone")
    before = house.daemon.command("device", "list", victim.address)
    victim.submit(str(letter["Reply-To"]), body="Thank you!\n\n> add phone\n", **reply_to(letter))
    answer = victim.wait_for(lambda one: str(one["In-Reply-To"] or "") != "" and one["Subject"] != "add phone")
    assert "Nothing was done" in text_of(answer)
    assert house.daemon.command("device", "list", victim.address) == before


def test_nobody_forges_what_tells_of_a_code(house: GuestHouse) -> None:
    """Programs of the sender's read Certmaild-Invite; no letter of somebody else's keeps such a field."""
    own, pickup = join(house.member, house.invited()), house.invited()
    forged = f"Code: {WRONG_CODE}\nAccount: {own.address}\n"
    own.submit(house.member.address, body=forged, Subject="forged inside", Certmaild_Invite=pickup.ordinary)
    with from_outside(house) as smtp:
        head = f"From: x@stranger.example\r\nSubject: forged outside\r\nCertmaild-Invite: {pickup.ordinary}\r\n\r\n"
        smtp.sendmail("x@stranger.example", [house.member.address], (head + forged.replace("\n", "\r\n")).encode())
    for subject in ("forged inside", "forged outside"):
        letter = house.member.wait_for(lambda one, subject=subject: one["Subject"] == subject)
        assert letter["Certmaild-Invite"] is None


def test_a_session_of_the_code_commands_nothing(house: GuestHouse) -> None:
    """Who was told the code, its sender for one, makes no device with it: only who took the device password does."""
    pickup = house.invited()
    guest = first_log_in(house.member, pickup)
    with pytest.raises(smtplib.SMTPException) as refused:
        guest.submit(f"devices@{DOMAIN}", Subject="add phone")
    assert "5.7.1" in str(refused.value)


# Whom a guest may write to.


def test_a_guest_writes_to_no_stranger_and_no_other_guest(house: GuestHouse) -> None:
    own, other = join(house.member, house.invited()), house.invited()
    known = (other.account, other.ordinary)
    unknown = (f"nobody.{ORDINARY}@{GUESTS}", f"nobody@{ORDINARY}", "nobody@elsewhere.example")
    with own.submission() as client:
        answers = answers_to_rcpt(client, own.address, *known, *unknown)
        assert {(code, text[:6]) for code, text in answers} == {(550, "5.7.1 ")}
        # And does not learn who is there.
        assert len(set(answers)) == 1
        assert answers_to_rcpt(client, own.address, house.member.address)[0][0] == 250
    assert house.post.received(f"nobody@{ORDINARY}") == []


def test_a_guest_answers_whoever_wrote_to_him(house: GuestHouse) -> None:
    """A partner, say; here a second member, and a guest who was allowed to by nobody."""
    pickup = house.invited()
    own, second = join(house.member, pickup), house.new_member()
    second.submit(pickup.ordinary, Subject="From another")
    letter = own.wait_for(lambda one: one["Subject"] == "From another")
    own.submit(second.address, body="Yes.\n", **reply_to(letter))
    second.wait_for(lambda one: text_of(one) == "Yes.\n")


@pytest.mark.parametrize("field", ["From", "Sender", "path"])
def test_a_guest_writes_in_nobody_elses_name(house: GuestHouse, field: str) -> None:
    own, other = join(house.member, house.invited()), house.invited()
    for name in (house.member.address, other.account, other.ordinary, f"devices@{GUESTS}", "ceo@elsewhere.example"):
        with own.submission() as client, pytest.raises(smtplib.SMTPResponseException) as refused:
            path = name if field == "path" else own.address
            fields = {"Sender": name} if field == "Sender" else {}
            sender = name if field == "From" else own.address
            client.sendmail(path, [house.member.address], own.letter(house.member.address, sender=sender, **fields))
        assert (refused.value.smtp_code, refused.value.smtp_error[:5]) == (550, b"5.7.1"), name


# Guessing.


def guess(house: GuestHouse, name: str, password: str, *, address: str = "127.0.0.1") -> tuple[str, float]:
    """What LOGIN says, and in how many seconds."""
    lines = Lines(connect_from(address, house.daemon.ports["imaps"], house.daemon.tls_context()))
    lines.line()
    begun = time.perf_counter()
    lines.send(f'a LOGIN "{name}" "{password}"\r\n'.encode())
    answer = lines.line().decode()
    taken = time.perf_counter() - begun
    lines.close()
    return answer, taken


def test_guesses_slow_their_address_and_the_guest_comes_in_all_the_same(house: GuestHouse) -> None:
    pickup = house.invited()
    answers = [guess(house, pickup.account, WRONG_CODE, address="127.0.7.1") for _ in range(6)]
    assert {answer for answer, _ in answers} == {answers[0][0]} and answers[0][0].startswith("a NO ")
    # Five at once, then a second for the next: PAIR_RATE of certmaild.throttle.
    assert answers[-1][1] > 1.0 > answers[0][1]
    # Spread over addresses: nobody is locked out by it, and the code is still the code.
    for number in range(4):
        assert guess(house, pickup.account, WRONG_CODE, address=f"127.0.8.{number + 1}")[0].startswith("a NO ")
    answer, taken = guess(house, pickup.account, pickup.code, address="127.0.9.1")
    assert answer.startswith("a OK ") and taken < 5
    # The sender is told, once.
    warned = house.member.wait_for(lambda one: pickup.ordinary in text_of(one) and "wrong" in text_of(one).lower())
    assert pickup.code not in text_of(warned)


# Who is a guest here?


def wrong(house: GuestHouse, service: str, name: str, password: str, address: str) -> tuple[str, float]:
    """What a wrong password is answered by a service, and in how many seconds."""
    ports = {"imap": "imaps", "pop3": "pop3s", "submission": "submissions"}
    lines = Lines(connect_from(address, house.daemon.ports[ports[service]], house.daemon.tls_context()))
    lines.line()
    if service == "imap":
        words = f'a LOGIN "{name}" "{password}"\r\n'
    elif service == "pop3":
        lines.send(f"USER {name}\r\n".encode())
        assert lines.line().startswith(b"+OK")
        words = f"PASS {password}\r\n"
    else:
        lines.send(b"EHLO client.example\r\n")
        while lines.line()[3:4] == b"-":
            pass
        words = "AUTH PLAIN " + b64encode(f"\0{name}\0{password}".encode()).decode() + "\r\n"
    begun = time.perf_counter()
    lines.send(words.encode())
    answer = lines.line().decode()
    taken = time.perf_counter() - begun
    lines.close()
    return answer, taken


@dataclass
class Names:
    """Account names and ordinary addresses, of guests and of nobody."""

    known: list[str]
    unknown: list[str]

    @property
    def all(self) -> list[str]:
        return self.known + self.unknown


@pytest.fixture(scope="module")
def names(house: GuestHouse) -> Names:
    """A guest who never came, one who has his own password; and nobody."""
    new, joined = house.invited(), house.invited()
    join(house.member, joined)
    nobody = house.stranger("nobody")
    known = [new.account, new.ordinary, joined.account, joined.ordinary]
    return Names(known, [f"{nobody.replace('@', '.')}@{GUESTS}", nobody])


def test_port_25_answers_one_text_for_all(house: GuestHouse, names: Names) -> None:
    with from_outside(house) as smtp:
        of_guests = answers_to_rcpt(smtp, "bob@stranger.example", *(one for one in names.all if GUESTS in one))
        outside = answers_to_rcpt(smtp, "bob@stranger.example", *(one for one in names.all if GUESTS not in one))
        assert [smtp.verify(one)[0] for one in names.all] == [252] * len(names.all)
    assert len(set(of_guests)) == 1 and of_guests[0][0] == 550 and of_guests[0][1].startswith("5.7.1 ")
    assert set(outside) == {(550, "5.7.1 Relaying denied")}


@pytest.mark.parametrize("service", ["imap", "pop3", "submission"])
def test_a_refused_log_in_says_the_same_of_all(house: GuestHouse, names: Names, service: str) -> None:
    several = enumerate(names.all if service == "imap" else (names.known[0], names.unknown[0]))
    answers = {wrong(house, service, name, WRONG_CODE, f"127.0.10.{number + 1}")[0] for number, name in several}
    assert len(answers) == 1


SHAPES = (WRONG_CODE, "0000-0000-0000-0000-0000-0000-0000-0000", "correct horse")


@pytest.mark.long
@pytest.mark.parametrize("service", ["imap", "pop3", "submission"])
@pytest.mark.parametrize("password", SHAPES)
def test_a_refused_log_in_takes_the_same_time_for_all(
    house: GuestHouse, names: Names, service: str, password: str
) -> None:
    """Also tests/certmaild/test_gatekeeper.py, which counts rounds of hashing."""
    times: dict[str, list[float]] = {name: [] for name in names.all}
    addresses = (f"127.0.{high}.{low}" for high in range(20, 60) for low in range(1, 255))
    for _ in range(11):
        for name, taken in times.items():
            taken.append(wrong(house, service, name, password, next(addresses))[1])
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    assert max(medians.values()) < 1.2 * min(medians.values()), medians


# Flooding.


@pytest.fixture(scope="module")
def strict(world: GuestWorld, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuestHouse]:
    limits = "invitations_per_sender = 4\nnotices_per_domain = 3"
    with guest_house(world, tmp_path_factory.mktemp("strict"), invite=limits) as running:
        yield running


def test_a_victim_gets_one_notice_however_many_write(strict: GuestHouse) -> None:
    victim = strict.stranger("victim")
    senders = [strict.new_member() for _ in range(3)]
    local, _, domain = victim.partition("@")
    for number, sender in enumerate(senders):
        for to in (victim, victim.upper(), f"{local}+{number}@{domain}", f"{local}@{domain.upper()}"):
            sender.submit(to, Subject="Flood")
    strict.post.wait_for(victim)
    assert_queue_is_empty(strict)
    assert len([one for one in strict.post.everything() if recipient_of(one).startswith(local)]) == 1


def assert_queue_is_empty(house: GuestHouse) -> None:
    """Nothing waits to be sent, so nothing more will come."""
    give_up = time.monotonic() + 30
    while house.daemon.command("queue", "list") != "The queue is empty.\n":
        assert time.monotonic() < give_up, house.daemon.command("queue", "list")
        time.sleep(0.1)  # the queue of another process gives no event to wait on


def test_a_sender_invites_so_many_and_no_more(strict: GuestHouse) -> None:
    sender = strict.new_member()
    strangers = [strict.stranger("many") for _ in range(6)]
    with sender.submission() as client, pytest.raises(smtplib.SMTPResponseException) as refused:
        for one in strangers:
            client.sendmail(sender.address, [one], sender.letter(one, Subject="Hello"))
    assert 400 <= refused.value.smtp_code < 600
    listed = strict.daemon.command("guest", "list")
    assert [one in listed for one in strangers] == [True] * 4 + [False] * 2
    # Whom he knows he may go on writing to.
    sender.submit(strangers[0], Subject="Again")


def test_a_domain_gets_so_many_notices_and_no_more(strict: GuestHouse) -> None:
    domain = "small.example"
    for _ in range(2):
        sender = strict.new_member()
        for number in range(3):
            sender.submit(f"{sender.address.partition('@')[0]}.{number}@{domain}", Subject="Hello")
    assert_queue_is_empty(strict)
    assert len(strict.post.everything(domain)) == 3
    # The others' mailboxes and codes are there all the same.
    assert strict.daemon.command("guest", "list").count(f"@{domain}") == 6


def test_what_nobody_wrote_invites_nobody(strict: GuestHouse) -> None:
    """Read receipts and vacation responders answer whoever a stranger says he is."""
    sender = strict.new_member()
    receipt, absent = strict.stranger("receipt"), strict.stranger("absent")
    with sender.submission() as client, suppress(smtplib.SMTPException):
        client.sendmail("", [receipt], sender.letter(receipt, Subject="Read"))
    with suppress(smtplib.SMTPException):
        sender.submit(absent, Subject="Out of office", Auto_Submitted="auto-replied")
    assert_queue_is_empty(strict)
    listed = strict.daemon.command("guest", "list")
    assert receipt not in listed and absent not in listed


# What lies on the disk.


def files_with(folder: Path, *marks: str) -> list[str]:
    """Files that hold one of the marks, in any letter case, with their dashes or without."""
    needles = {form.lower() for mark in marks for form in (mark, mark.replace("-", ""), mark.replace("-", " "))}
    hits = []
    for place, _, found in os.walk(folder):
        for name in found:
            path = Path(place) / name
            text = path.read_bytes().lower() if path.is_file() else b""
            hits += [
                f"{path}: {needle}"
                for needle in needles
                if any(one in text for one in (needle.encode(), needle.encode("utf-16-le"), b64encode(needle.encode())))
            ]
    return hits


def test_no_file_holds_a_code_a_password_or_the_letter(
    world: GuestWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = "Zyxomorph"
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    with guest_house(world, tmp_path / "house", workers=2) as house:
        ordinary = house.stranger("secret")
        house.member.submit(ordinary, Subject=f"{mark} results", body=f"{mark}\n")
        pickup = await_pickup(house.member, ordinary)
        guest = first_log_in(house.member, pickup)
        guess(house, pickup.account, WRONG_CODE)
        welcome = guest.wait_for(lambda one: DEVICE_PASSWORD.search(text_of(one)))
        passwords = DEVICE_PASSWORD.findall(text_of(welcome))
        marks = (mark, pickup.code, *passwords)
        assert files_with(tmp_path, *marks) == []
        own = guest.with_password(own_password(guest))
        letter = own.wait_for(lambda one: mark in str(one["Subject"]))
        own.submit(house.member.address, body=f"{mark}\n", **reply_to(letter))
        house.member.wait_for(lambda one: text_of(one) == f"{mark}\n")
        own.submit(f"devices@{DOMAIN}", Subject="add phone")
        answer = own.wait_for(lambda one: set(DEVICE_PASSWORD.findall(text_of(one))) - set(passwords))
        marks += tuple(DEVICE_PASSWORD.findall(text_of(answer)))
        assert files_with(tmp_path, *marks) == []
        house.daemon.stop()
        assert files_with(tmp_path, *marks) == []
    # Nor did they leave the house.
    assert not any(one in found.as_string() for found in world.post.received(ordinary) for one in marks)
    # The search itself finds what is there.
    (temporary / "control").write_text(f"x{pickup.code.lower()}x")
    assert len(files_with(temporary, *marks)) == 1


# Killed.


KILLS = 20


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_between_the_invitation_and_the_first_log_in(world: GuestWorld, tmp_path: Path, workers: int) -> None:
    """After each kill: who was promised delivery has it, each guest has a code that opens, each code a guest."""
    chance = random.Random(20)
    daemon = Daemon(tmp_path / "house", workers=workers, tables=world.tables(invite="invitations_per_sender = 10000"))
    with daemon:
        member = Person(daemon, daemon.add_user("ann"))
        house = GuestHouse(world, daemon, member)
        for number in range(KILLS):
            kill_once(house, chance.uniform(0.02, 0.6), number)


def kill_once(house: GuestHouse, after_s: float, number: int) -> None:
    """Invite and log in until the kill; start anew, and look at everybody who was invited meanwhile."""
    promised: list[str] = []
    tried: list[str] = []
    codes: dict[str, Pickup] = {}
    taken: dict[str, str] = {}

    def write() -> None:
        with suppress(smtplib.SMTPException, OSError), house.member.submission() as client:
            while True:
                to = f"k{number}.{len(tried)}@{ORDINARY}"
                tried.append(to)
                client.sendmail(house.member.address, [to], house.member.letter(to, Subject=to))
                promised.append(to)

    def come() -> None:
        with suppress(imaplib.IMAP4.error, ConnectionError, OSError, NotThere, SystemExit):
            while True:
                for ordinary in [one for one in promised if one not in taken]:
                    codes[ordinary] = await_pickup(house.member, ordinary)
                    guest = first_log_in(house.member, codes[ordinary])
                    taken[ordinary] = own_password(guest)
                    guest.with_password(taken[ordinary]).messages()

    threads = [threading.Thread(target=work) for work in (write, come)]
    for thread in threads:
        thread.start()
    time.sleep(after_s)
    house.daemon.kill()
    for thread in threads:
        thread.join()
    house.daemon.start()
    listed = house.daemon.command("guest", "list")
    pickups = codes | {one.ordinary: one for message in house.member.messages() if (one := pickup_of(message))}
    for ordinary in tried:
        there = ordinary in listed
        assert there or ordinary not in promised, f"{ordinary} was promised, and is not there"
        if not there:
            assert ordinary not in pickups
            continue
        guest = first_log_in(house.member, pickups[ordinary])
        if is_let_in(guest):
            own_password(guest)
        else:
            # His own password has been used.
            guest = guest.with_password(taken[ordinary])
        assert [str(one["Subject"]) for one in guest.messages()].count(ordinary) == 1
