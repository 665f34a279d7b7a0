"""Groups: who may write to one, who gets a copy, and what is refused by whom."""

from pathlib import Path

import pytest
from command_support import make_line
from delivery_support import House
from support import memory_engine, run

from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.addresses import canonical
from certmaild.mailbox.directory import Directory
from certmaild.mailbox.errors import AddressTaken
from certmaild.mailbox.groups import GroupRefused, Groups, Senders
from certmaild.mailbox.layout_accounts import Role, State
from certmaild.outbound.values import Notify
from certmaild.partners.book import PartnerBook
from certmaild.protocols.limits import Limits

FROM_ANN = b"From: ann@example.com\r\nSubject: hi\r\n\r\nHello.\r\n"
FROM_GUEST = b"From: guest@example.com\r\nSubject: hi\r\n\r\nHello.\r\n"


@pytest.fixture
def house(tmp_path: Path) -> House:
    made = House(
        memory_engine(),
        ServerSecrets.create(tmp_path / "secrets"),
        Limits(expanded_recipients=3),
        partners=PartnerBook(()),
    )
    for name in ("ann", "bob", "carl"):
        made.add(name)
    made.add("guest", role=Role.GUEST)
    return made


def groups(house: House, most: int = 10) -> Groups:
    return Groups(house.engine, house.secrets, hosted=("example.com", "example.org"), most=most)


def make(house: House, name: str, *members: str, senders: Senders | None = None) -> None:
    addresses = [canonical(one if "@" in one else f"{one}@example.com") for one in members]
    run(groups(house).put(canonical(f"{name}@example.com"), addresses, senders=senders))


def copies(house: House) -> dict[str, int]:
    return {name: len(house.mail_of(name)) for name in ("ann", "bob", "carl", "guest")}


def test_each_member_gets_one_copy_also_one_who_is_named_beside_the_group(house: House) -> None:
    house.alias("robert", "bob")
    make(house, "inner", "bob", "ann")
    make(house, "team", "ann", "robert", "inner")
    house.send("team+news", "bob", sender="ann", content=FROM_ANN)
    assert copies(house) == {"ann": 1, "bob": 1, "carl": 0, "guest": 0}
    (arrived,) = house.mail_of("ann")
    assert b"Return-Path: <ann@example.com>" in arrived.prefix
    assert b"Delivered-To: ann@example.com" in arrived.prefix


@pytest.mark.parametrize(
    ("senders", "answers"),
    [
        (Senders.MEMBERS, (None, None, "550 5.7.2", "550 5.7.2")),
        (Senders.LIST, (None, "550 5.7.2", "550 5.7.2", "550 5.7.2")),
        (Senders.ANYONE, (None, None, None, None)),
    ],
)
def test_who_may_write(house: House, senders: Senders, answers: tuple[str | None, ...]) -> None:
    make(house, "team", "ann", "bob", senders=senders)
    for name, answer in zip(("ann", "carl", "guest", "stranger"), answers, strict=True):
        sender = None if name == "stranger" else name
        content = f"From: {name}@example.com\r\n\r\nHello.\r\n".encode()
        if answer is None:
            house.send("team", sender=sender, content=content)
        else:
            assert house.refusal("team", sender=sender, content=content) == answer


def test_loops_are_cut_and_depth_is_bounded(house: House) -> None:
    make(house, "g0", "carl")
    make(house, "g1", "ann", "g0")
    make(house, "g0", "bob", "g1")
    house.send("g1", sender="ann", content=FROM_ANN)
    assert copies(house) == {"ann": 1, "bob": 1, "carl": 0, "guest": 0}
    make(house, "d6", "carl")
    for depth in (5, 4, 3, 2, 1):
        make(house, f"d{depth}", f"d{depth + 1}", *(("bob",) if depth == 5 else ()))
    house.send("d1", sender="ann", content=FROM_ANN)
    assert copies(house) == {"ann": 1, "bob": 2, "carl": 0, "guest": 0}
    house.send("d2", sender="ann", content=FROM_ANN)
    assert copies(house) == {"ann": 1, "bob": 3, "carl": 1, "guest": 0}


def test_members_elsewhere_go_their_own_way(house: House) -> None:
    make(house, "team", "bob", "Eve@partner.example")
    house.send("team", sender="ann", content=FROM_ANN)
    (queued,) = house.queued()
    ((recipient, destination, _),) = queued.recipients
    assert (str(recipient.path), destination.domain) == ("Eve@partner.example", "partner.example")
    assert recipient.orcpt == b"rfc822;team@example.com"
    assert copies(house)["bob"] == 1


def test_strangers_mail_never_leaves_the_house(house: House) -> None:
    make(house, "outer", "eve@partner.example")
    with pytest.raises(GroupRefused, match="elsewhere"):
        make(house, "open", "outer", senders=Senders.ANYONE)
    make(house, "inner", "bob")
    make(house, "open", "inner", senders=Senders.ANYONE)
    make(house, "inner", "bob", "eve@partner.example")
    assert house.refusal("open") == "550 5.7.2"


def test_who_gets_none_is_told_to_a_member_by_name_and_to_others_not(house: House) -> None:
    make(house, "team", "bob", "carl", senders=Senders.ANYONE)
    house.add("carl", state=State.DISABLED)
    house.send("team", sender="ann", content=FROM_ANN, notify=frozenset({Notify.FAILURE}))
    (report,) = house.mail_of("ann")
    assert b"carl@example.com" in report.content
    house.send("team", sender="guest", content=FROM_GUEST, notify=frozenset({Notify.FAILURE}))
    (report,) = house.mail_of("guest")
    assert b"carl@example.com" not in report.content
    assert b"team@example.com" in report.content
    assert copies(house)["bob"] == 2
    make(house, "alone", "carl")
    assert house.refusal("alone", sender="ann", content=FROM_ANN) == "550 5.2.1"
    make(house, "empty")
    assert house.refusal("empty", sender="ann", content=FROM_ANN) == "550 5.2.4"


def test_recipients_after_expansion_at_and_past_the_limit(house: House) -> None:
    make(house, "three", "ann", "bob", "carl")
    house.send("three", sender="ann", content=FROM_ANN)
    assert house.refusal("guest", "three", sender="ann", content=FROM_ANN) == "452 4.5.3"
    make(house, "four", "ann", "bob", "carl", "guest")
    assert house.refusal("four", sender="ann", content=FROM_ANN) == "550 5.5.3"


def test_members_of_a_group_at_and_past_the_limit(house: House) -> None:
    two = [canonical("ann@example.com"), canonical("bob@example.com")]
    small, team = groups(house, most=2), canonical("team@example.com")
    run(small.put(team, two))
    with pytest.raises(GroupRefused, match="at most 2"):
        run(small.put(team, [canonical("carl@example.com")], adds=True))
    assert len(run(small.show(team))[0].members) == 2


def test_a_group_is_nobody_else_s_address_and_nobody_to_log_in_as(house: House) -> None:
    make(house, "team", "ann")
    directory = Directory(house.engine, house.secrets)
    assert run(directory.find(canonical("team@example.com"))) is None
    with pytest.raises(AddressTaken):
        make(house, "bob", "ann")


def test_groups_by_command(tmp_path: Path) -> None:
    line = make_line(tmp_path)
    for name in ("ann", "bob"):
        line.run("user", "add", f"{name}@example.com")
    said = line.run("group", "add", "Team@example.com", "ann@example.com", "eve@partner.example").stdout
    assert said == "Team@example.com has 2 members; it is written to by members.\n"
    line.run("group", "add", "team@example.com", "bob@example.com")
    shown = line.json("group", "show", "team@example.com")
    assert shown["reaches"] == ["ann@example.com", "eve@partner.example", "bob@example.com"]
    assert "elsewhere" in line.run("group", "set", "team@example.com", "--senders", "anyone", status=1).stderr
    line.run("group", "set", "team@example.com", "bob@example.com", "--senders", "list")
    assert line.json("group", "list") == [
        {"group": "Team@example.com", "senders": "list", "count": 1, "members": ["bob@example.com"]}
    ]
    assert "Team@example.com" in line.run("group", "list").stdout
    assert "Nobody here" in line.run("group", "add", "team@example.com", "no@example.com", status=1).stderr
    assert "not in" in line.run("group", "remove", "team@example.com", "ann@example.com", status=1).stderr
    assert "already" in line.run("user", "add", "team@example.com", status=1).stderr
    assert "already" in line.run("alias", "add", "team@example.com", "ann@example.com", status=1).stderr
    line.run("group", "add", "team@elsewhere.example", status=1)
    line.run("group", "add", "team+x@example.com", status=1)
    line.run("group", "remove", "team@example.com", "bob@example.com")
    line.run("group", "remove", "team@example.com")
    line.run("group", "show", "team@example.com", status=1)
    line.run("user", "add", "team@example.com")
    acts = [one["act"] for one in line.json("audit", "--whom", "team@")]
    assert acts == ["group made", *["group changed"] * 3, "group removed", "account made"]
