"""`certmaild guest`."""

from pathlib import Path

import pytest
from command_support import Line, make_line

TABLES = '[invite]\ndomain = "guest.example.com"\n'
BOB, ACCOUNT = "bob@far.example", "bob.far.example@guest.example.com"


@pytest.fixture
def line(tmp_path: Path) -> Line:
    line = make_line(tmp_path, tables=TABLES)
    line.run("user", "add", "ann@example.com")
    return line


def test_a_guest_is_invited_shown_and_removed(line: Line) -> None:
    assert "Nobody was invited yet." in line.run("guest", "list").stdout
    said = line.run("guest", "invite", "Bob+x@far.example", "--by", "ann@example.com", "--language", "de").stdout
    assert ACCOUNT in said
    assert "INBOX of ann@example.com" in said
    (row,) = line.json("guest", "list")
    assert (row["address"], row["account"], row["state"], row["role"], row["inviter"], row["language"]) == (
        "Bob@far.example",
        ACCOUNT,
        "waits",
        "guest",
        "ann@example.com",
        "de",
    )
    table = line.run("guest", "list").stdout
    assert ACCOUNT in table
    assert "invited by" in table
    for name in (BOB, ACCOUNT, "BOB+y@far.example"):
        assert line.json("guest", "show", name) == row
    assert "code expires:" in line.run("guest", "show", BOB).stdout
    assert line.json("user", "show", "ann@example.com")["messages"] == 1
    assert [one["act"] for one in line.json("audit", "--whom", "far.example")] == ["guest invited"]
    line.run("guest", "remove", BOB, "--yes")
    assert line.json("guest", "list") == []
    line.run("guest", "invite", BOB, "--by", "ann@example.com")
    (again,) = line.json("guest", "list")
    assert again["account"].startswith("bob.far.example-")


def test_what_is_refused_says_why(line: Line, tmp_path: Path) -> None:
    def refused(*words: str) -> str:
        return line.run("guest", *words, status=1).stderr

    assert "no mailbox here" in refused("invite", BOB, "--by", "nobody@example.com")
    assert "not a hosted domain" in refused("invite", BOB, "--by", "ann@far.example")
    for name in ("eve@example.com", "eve@guest.example.com", "eve@[192.0.2.1]"):
        assert "no address of somebody elsewhere" in refused("invite", name, "--by", "ann@example.com")
    line.run("guest", "invite", BOB, "--by", "ann@example.com")
    assert "has a mailbox here" in refused("invite", BOB, "--by", "ann@example.com")
    assert "never invited" in refused("show", "eve@far.example")
    assert "never invited" in refused("remove", "ann@example.com", "--yes")
    (tmp_path / "other").mkdir()
    without = make_line(tmp_path / "other")
    said = without.run("guest", "invite", BOB, "--by", "ann@example.com", status=1).stderr
    assert "names no domain" in said
