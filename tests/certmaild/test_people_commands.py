"""Commands about people: roles, devices with limits, the audit log."""

import re
from pathlib import Path

import pytest
from command_support import Line, make_line

from certmaild.config import load
from certmaild.mailbox.interfaces import WriteTxn
from certmaild.mailbox.layout import Table
from certmaild.mailbox.layout_guests import audit_key
from certmaild.setup import opened


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return make_line(tmp_path)


def test_roles_are_set_and_shown(line: Line) -> None:
    line.run("user", "add", "ann@example.com")
    line.run("user", "add", "bot@example.com", "--role", "app")
    assert {one["address"]: (one["role"], one["sent"]) for one in line.json("user", "list")} == {
        "ann@example.com": ("member", "client"),
        "bot@example.com": ("app", "server"),
    }
    assert "app" in line.run("user", "list").stdout
    assert line.json("user", "set", "ann@example.com", "--role", "auditor", "--quota", "5MiB")["role"] == "auditor"
    line.run("user", "set", "ann@example.com", "--retrieve-marks-seen")
    assert re.search(r"^role: +auditor$", line.run("user", "show", "ann@example.com").stdout, re.MULTILINE)
    line.run("user", "set", "ann@example.com", "--role", "king", status=2)
    found = [(one["act"], one["whom"], one["detail"]) for one in line.json("audit", "--whom", "ann@")]
    assert found == [
        ("account made", "ann@example.com", "role member"),
        ("account changed", "ann@example.com", "role auditor, octets limit 5242880"),
        ("account changed", "ann@example.com", "retrieve marks seen yes"),
    ]
    assert all(one["by"].startswith("command ") for one in line.json("audit"))


def test_devices_with_limits(line: Line) -> None:
    password = line.json("user", "add", "team@example.com")["device_password"]
    words = ("--scope", "read", "--network", "192.0.2.0/24", "--network", "2001:db8::1", "--expires", "30d")
    line.run("device", "add", "team@example.com", "front desk", *words, stdin=password)
    line.run("device", "add", "team@example.com", "--name", "van", stdin=password)
    shown = line.json("device", "list", "team@example.com", "--names", stdin=password)
    desk = next(one for one in shown if one["name"] == "front desk")
    assert (desk["scopes"], desk["networks"]) == (["imap-read"], ["192.0.2.0/24", "2001:db8::1/128"])
    assert desk["expires"] > desk["created"]
    van = next(one for one in shown if one["name"] == "van")
    assert (van["scopes"], van["networks"], van["expires"]) == (
        ["imap-read", "imap-write", "pop", "submit"],
        [],
        None,
    )
    table = line.run("device", "list", "team@example.com").stdout
    assert "192.0.2.0/24, 2001:db8::1/128" in table
    for wrong in (("--scope", "much"), ("--network", "192.0.2.1/24"), ("--expires", "soon")):
        line.run("device", "add", "team@example.com", "x", *wrong, stdin=password, status=2)
    app = line.json("user", "add", "bot@example.com", "--role", "app")["device_password"]
    refused = line.run("device", "add", "bot@example.com", "x", "--scope", "read", stdin=app, status=1)
    assert "only submits" in refused.stderr
    line.run("device", "add", "bot@example.com", "x", "--expires", "1h", stdin=app)
    (added,) = [one for one in line.json("audit", "--whom", "bot@") if one["act"] == "device made"]
    assert re.fullmatch(r"[0-9A-Z]{4}, scopes submit, expires 20\d\d-.*Z", added["detail"])
    assert "front desk" not in line.run("audit").stdout, "only the user's keys show a device's name"


def test_the_audit_log_is_cut_by_time_and_says_when_it_is_broken(line: Line, tmp_path: Path) -> None:
    line.run("user", "add", "ann@example.com")
    line.run("alias", "add", "sales@example.com", "ann@example.com")
    line.run("user", "disable", "ann@example.com")
    assert len(line.json("audit", "--since", "1h")) == len(line.json("audit", "--since", "2020-01-01")) == 3
    assert line.json("audit", "--since", "2100-01-01T10:00") == []
    line.run("audit", "--since", "sometime", status=2)
    assert "alias added" in line.run("audit").stdout

    def work(txn: WriteTxn) -> None:
        txn.delete(Table.AUDIT, audit_key(2))

    with opened(load(line.config)) as (driver, engine, _):

        async def harm() -> None:
            await engine.write(work)

        driver.run(harm())
    broken = line.run("audit", status=1)
    assert "account made" in broken.stdout
    assert "account disabled" not in broken.stdout
    assert "broken behind row 1" in broken.stderr
