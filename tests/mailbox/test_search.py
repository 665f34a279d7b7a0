"""SEARCH over flags, dates, sizes, headers and decoded text."""

from pathlib import Path

import pytest
from mailbox_support import NOW, House, mail, make_house
from support import run

from certmaild.mailbox.errors import FolderMissing
from certmaild.mailbox.identifiers import BoxId
from certmaild.mailbox.search import (
    Aged,
    All,
    And,
    BodyHas,
    DateOf,
    DateOp,
    HasFlags,
    HasKeyword,
    HasMid,
    HasUid,
    HeaderHas,
    ModSeqFrom,
    Not,
    OnDay,
    Or,
    SearchKey,
    SizeIs,
    TextHas,
)
from certmaild.mailbox.values import FlagOp, Flags, SystemFlag

DAY = NOW // 86400

MULTIPART = b"""Date: Mon, 2 Jun 2025 23:30:00 -0800
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= aus
 =?iso-8859-1?b?TfxuY2hlbg==?=
From: "Ann" <ann@example.org>
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

Der K=E4=
se ist gut.
--b
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: base64

PGI+w4RwZmVsPC9iPg==
--b
Content-Type: application/octet-stream; name="vertrag.pdf"
Content-Transfer-Encoding: base64

aGlkZGVu
--b
Content-Type: message/rfc822

Subject: inner letter

deep text
--b--
""".replace(b"\n", b"\r\n")


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = make_house(tmp_path)
    house.append(mail("plain one", "first body"), flags=Flags(SystemFlag.SEEN, frozenset(["Work"])))
    house.append(MULTIPART)
    house.append(mail("long", "x" * 400_000 + " needle " + "y" * 400_000))
    house.deliver(mail("arrived", "by smtp"))
    return house


@pytest.mark.parametrize(
    ("key", "uids"),
    [
        (All(), [1, 2, 3, 4]),
        (HasFlags(SystemFlag.SEEN), [1]),
        (HasFlags(SystemFlag.SEEN, False), [2, 3, 4]),
        (HasKeyword("work"), [1]),
        (HasKeyword("never"), []),
        (HasKeyword("never", False), [1, 2, 3, 4]),
        (HasUid([range(2, 4), range(9, 99)]), [2, 3]),
        (SizeIs(100_000, True), [3]),
        (SizeIs(100_000, False), [1, 2, 4]),
        (OnDay(DateOf.INTERNAL, DateOp.ON, DAY), [1, 2, 3, 4]),
        (OnDay(DateOf.INTERNAL, DateOp.BEFORE, DAY), []),
        (OnDay(DateOf.SAVED, DateOp.SINCE, DAY), [1, 2, 3, 4]),
        (OnDay(DateOf.SENT, DateOp.ON, 20241), [2]),
        (OnDay(DateOf.SENT, DateOp.BEFORE, 20242), [2]),
        (Aged(10, True), [1, 2, 3, 4]),
        (Aged(10, False), []),
        (ModSeqFrom(1 << 40), []),
        (HeaderHas("subject", "GRÜSSE AUS MÜNCHEN"), [2]),
        (HeaderHas("Subject", ""), [1, 2, 3, 4]),
        (HeaderHas("date", ""), [2]),
        (HeaderHas("delivered-to", "joe@"), [4]),
        (HeaderHas("from", "ANN@example"), [1, 2, 3, 4]),
        (BodyHas("käse"), [2]),
        (BodyHas("äpfel"), [2]),
        (BodyHas("hidden"), []),
        (BodyHas("vertrag.pdf"), [2]),
        (BodyHas("inner letter"), [2]),
        (BodyHas("deep text"), [2]),
        (BodyHas("needle"), [3]),
        (BodyHas(" needle y"), [3]),
        (BodyHas("plain one"), []),
        (BodyHas(""), [1, 2, 3, 4]),
        (TextHas("plain one"), [1]),
        (TextHas("first body"), [1]),
        (Not(TextHas("body")), [2, 3, 4]),
        (And((HasFlags(1, False), BodyHas("smtp"))), [4]),
        (And(()), [1, 2, 3, 4]),
        (Or((HasFlags(1), BodyHas("needle"))), [1, 3]),
        (Or(()), []),
        (Not(Or((HasFlags(1), OnDay(DateOf.SENT, DateOp.ON, 20241)))), [3, 4]),
    ],
)
def test_found(house: House, key: SearchKey, uids: list[int]) -> None:
    result = run(house.mailbox.find(house.box(), key))
    assert list(result.uids) == uids
    highest = max((entry.modseq for entry in house.entries() if entry.uid in uids), default=0)
    assert result.highest_modseq == highest


def test_within_some_uids_only(house: House) -> None:
    assert list(run(house.mailbox.find(house.box(), All(), uids=[range(3, 9)])).uids) == [3, 4]


def test_by_mid(house: House) -> None:
    entry = house.entries()[1]
    assert list(run(house.mailbox.find(house.box(), HasMid(entry.mid))).uids) == [2]


def test_a_message_that_goes_is_not_found(house: House) -> None:
    from certmaild.mailbox.layout import Table

    for table, key in house.rows([Table.BLOB]):
        run(house.engine.write(lambda txn, table=table, key=key: txn.delete(table, key)))
    assert list(run(house.mailbox.find(house.box(), TextHas("body"))).uids) == []
    run(house.mailbox.store_flags(house.box(), [range(1, 9)], FlagOp.ADD, Flags(SystemFlag.DELETED)))
    run(house.mailbox.expunge(house.box()))
    assert list(run(house.mailbox.find(house.box(), All())).uids) == []


def test_no_such_folder(house: House) -> None:
    with pytest.raises(FolderMissing):
        run(house.mailbox.find(BoxId(bytes(16)), All()))
