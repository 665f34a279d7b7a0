"""Clouds of mail programs' makers: who is recognised, what the user hears, who is refused."""

import re
from ipaddress import ip_network
from pathlib import Path

import pytest
from delivery_support import NOW, House
from support import memory_engine, run

from certmaild.config_values import RelayPolicy, Relays
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox import audit_log
from certmaild.mailbox.clients import read_client
from certmaild.mailbox.identifiers import CredentialId
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_accounts import credential_key
from certmaild.mailbox.layout_guests import ClientRow
from certmaild.protocols.interfaces import ClientId, Login, LogInForbidden, Service
from certmaild.relays.known import NYLAS, OUTLOOK, clouds
from certmaild.relays.texts import FORBIDDEN
from certmaild.relays.watch import TOLD_EVERY_S, RelayWatch

CLOUD = "52.125.138.56"
HOME = "192.0.2.7"
SYNC: ClientId = (("name", "Nylas Sync Engine"), ("vendor", "Nylas"))


class World:
    """A watch over a house; ``now`` moves."""

    def __init__(self, house: House, settings: Relays) -> None:
        self.house, self.now = house, NOW
        self.watch = RelayWatch(
            house.engine, house.secrets, house.correspondence.mail, settings, seconds=lambda: self.now
        )
        self.login: Login = house.login("ann")
        key = credential_key(self.login.user_id, self.login.credential_id)
        run(house.engine.write(lambda txn: txn.put(Table.CRED, key, b"a way in")))

    def enter(self, peer: str, service: Service = Service.IMAP) -> None:
        run(self.watch.entered(self.login, service, peer))

    def tell(self, client_id: ClientId, peer: str = HOME) -> None:
        run(self.watch.told(self.login, client_id, peer))

    def letters(self) -> list[str]:
        return [one.content.decode() for one in self.house.mail_of("ann")]

    def row(self) -> ClientRow:
        return run(
            self.house.engine.read(
                lambda txn: read_client(txn, self.house.secrets, self.login.user_id, self.login.credential_id)
            )
        )

    def acts(self) -> list[tuple[str, str]]:
        rows, is_whole = run(audit_log.read_all(self.house.engine, self.house.secrets))
        assert is_whole
        return [(row.act, row.detail) for _, row in rows]


@pytest.fixture
def house(tmp_path: Path) -> House:
    made = House(memory_engine(), ServerSecrets.create(tmp_path / "secrets"))
    made.add("ann")
    return made


@pytest.mark.parametrize(
    ("peer", "found"),
    [
        (CLOUD, OUTLOOK),
        ("::ffff:52.127.97.1", OUTLOOK),
        ("52.125.144.0", None),
        (HOME, None),
        ("2001:db8::1", None),
        ("not an address", None),
    ],
)
def test_known_networks(peer: str, found: object) -> None:
    assert clouds((), ()).by_address(peer) is found


@pytest.mark.parametrize(
    ("client_id", "found"),
    [
        (SYNC, NYLAS),
        ((("NAME", "  nylas sync engine "),), NYLAS),
        ((("support-url", "nylas.example"), ("name", "Thunderbird")), None),
        ((("name", "iPhone Mail"), ("vendor", "Apple Inc")), None),
        ((("name", ""),), None),
        ((), None),
    ],
)
def test_known_words(client_id: ClientId, found: object) -> None:
    assert clouds((), ("",)).by_words(client_id) is found


def test_the_operator_adds_networks_and_programs(house: House) -> None:
    world = World(house, Relays(RelayPolicy.REFUSE, (ip_network("2001:db8::/48"),), ("Acme",)))
    for work in (lambda: world.enter("2001:db8::7"), lambda: world.tell((("vendor", "ACME Inc."),))):
        with pytest.raises(LogInForbidden):
            work()
    assert "the servers of your mail program's maker" in re.sub(r"\s+", " ", world.letters()[0])
    world.enter(HOME)
    world.tell((("name", "Anacme"),))


def test_a_warning_comes_once_in_thirty_days_for_each_way_in(house: House) -> None:
    world = World(house, Relays())
    world.enter(CLOUD)
    world.enter(CLOUD, Service.SUBMISSION)
    world.tell(SYNC, CLOUD)
    (letter,) = world.letters()
    assert "Subject: Your mail passes through the servers of Outlook" in letter
    assert CLOUD in letter
    assert 'subject "revoke 0001"' in letter
    assert (world.row().relay, world.row().relay_s, world.row().relay_refused) == ("Outlook", int(NOW), False)
    assert world.acts() == [("cloud log-in", f"Outlook, imap, device 0001, from {CLOUD}")]
    world.now += TOLD_EVERY_S - 1
    world.enter(CLOUD)
    assert len(world.letters()) == 1
    world.now += 1
    world.enter(CLOUD)
    assert len(world.letters()) == 2
    assert world.row().relay_s == int(NOW), "since when is kept"


def test_a_refusal_is_told_at_once_and_not_at_each_try(house: House) -> None:
    world = World(house, Relays())
    world.enter(CLOUD)
    world.watch.take_over(Relays(RelayPolicy.REFUSE))
    for _ in range(3):
        with pytest.raises(LogInForbidden) as forbidden:
            world.enter(CLOUD, Service.POP3)
    assert forbidden.value.public_text == FORBIDDEN
    assert [re.findall(r"^Subject: (\w+)", letter, re.MULTILINE) for letter in world.letters()] == [
        ["Your"],
        ["Refused"],
    ]
    assert [act for act, _ in world.acts()] == ["cloud log-in", "cloud log-in refused"]


def test_the_policy_is_of_the_accounts_domain_and_allow_keeps_the_evidence(house: House) -> None:
    world = World(house, Relays(RelayPolicy.REFUSE, domains={"example.com": RelayPolicy.ALLOW}))
    world.enter(CLOUD)
    world.tell(SYNC)
    assert world.letters() == []
    assert world.row().relay == "Nylas"
    assert len(world.acts()) == 2


def test_without_the_letter_a_refusal_holds_and_a_warning_stops_nobody(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(house.correspondence.mail, "place", fail)
    world = World(house, Relays())
    world.enter(CLOUD)
    world.watch.take_over(Relays(RelayPolicy.REFUSE))
    with pytest.raises(LogInForbidden):
        world.enter(CLOUD)
    assert world.acts() == []


def test_no_text_holds_a_link_and_what_programs_are_answered_fits_a_line(house: House) -> None:
    world = World(house, Relays())
    world.enter(CLOUD)
    world.watch.take_over(Relays(RelayPolicy.REFUSE))
    with pytest.raises(LogInForbidden):
        world.enter(CLOUD)
    for text in (FORBIDDEN, *world.letters()):
        assert not re.search(r"[a-z]+://|\bwww\.|mailto:", text, re.IGNORECASE)
    assert FORBIDDEN.isascii()
    assert len(FORBIDDEN) < 400
    for name in ("classic Outlook", "Thunderbird", "Apple Mail"):
        assert name in FORBIDDEN


def test_a_way_in_that_is_gone_leaves_nothing(house: House) -> None:
    world = World(house, Relays())
    world.login = Login(world.login.user_id, world.login.address, CredentialId(77), False, world.login.keys)
    world.enter(CLOUD)
    assert world.row() == ClientRow()
