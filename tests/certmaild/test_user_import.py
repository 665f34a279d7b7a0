"""`certmaild user import`: all or nothing of a file that is wrong, and no password lost on the way."""

import csv
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner
from command_support import Line, entry, make_line

from certmaild.mailbox.accounts import Accounts

PEOPLE = "address;name;role;quota;devices\nann@example.com;Ann;;5MiB;phone|desk\nbot@example.com;;app;;\n"


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return make_line(tmp_path)


def made(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_accounts_of_a_file(line: Line, tmp_path: Path) -> None:
    people, out = tmp_path / "people.csv", tmp_path / "out.csv"
    people.write_text(PEOPLE)
    line.run("user", "add", "bot@example.com")
    assert "1 account would be made" in line.run("user", "import", str(people), "--dry-run").stderr
    assert len(line.json("user", "list")) == 1
    said = line.run("user", "import", str(people), "--out", str(out)).stderr
    assert "1 of 2 addresses exist here already" in said
    assert "Made 1 account." in said
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    rows = made(out)
    assert [(one["address"], one["name"], one["device"]) for one in rows] == [
        ("ann@example.com", "Ann", "phone"),
        ("ann@example.com", "Ann", "desk"),
    ]
    assert [bool(one["recovery_code"]) for one in rows] == [True, False]
    for one in rows:
        named = line.json("device", "list", "ann@example.com", "--names", stdin=one["device_password"] + "\n")
        assert {"phone", "desk"} <= {device["name"] for device in named}
    ann, bot = (line.json("user", "show", f"{name}@example.com") for name in ("ann", "bot"))
    assert ann["octets_limit"] == 5 * 2**20
    assert ann["service_folders"]
    assert bot["service_folders"]
    refused = line.run("user", "import", str(people), "--out", str(out), status=1)
    assert "exists" in refused.stderr
    again = line.run("user", "import", str(people), "--out", str(tmp_path / "second.csv")).stderr
    assert "2 of 2 addresses exist" in again
    assert "Made 0 accounts." in again


def test_a_program_of_a_file_only_submits_and_a_pipe_gets_the_passwords(line: Line, tmp_path: Path) -> None:
    people, out = tmp_path / "people.csv", tmp_path / "out.csv"
    people.write_text(PEOPLE)
    out.write_text(line.run("user", "import", str(people)).stdout)
    assert [one["address"] for one in made(out)] == ["ann@example.com", "ann@example.com", "bot@example.com"]
    kinds = {one["kind"]: one["scopes"] for one in line.json("device", "list", "bot@example.com")}
    assert kinds["device"] == ["submit"]
    assert not line.json("user", "show", "bot@example.com")["service_folders"]


def test_a_file_that_is_wrong_makes_nobody(line: Line, tmp_path: Path) -> None:
    people, out = tmp_path / "people.csv", tmp_path / "out.csv"
    people.write_text("address\nann@example.com\nhelp@example.com\n" + "nonsense\n" * 29)
    result = CliRunner().invoke(entry, ["--config", str(line.config), "user", "import", str(people), "--out", str(out)])
    assert result.exit_code == 1
    done = result.stderr.splitlines()
    assert len(done) == 22
    assert done[0] == "Line 3: help@ is the server's own address, where people command by mail."
    assert done[1].startswith("Line 4: 'nonsense' is not an address")
    assert done[-2:] == ["And 10 lines more.", "Nothing was done."]
    assert not out.exists()
    assert line.json("user", "list") == []


def test_a_password_is_written_before_its_account_is_made(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people, out, second = tmp_path / "people.csv", tmp_path / "out.csv", tmp_path / "second.csv"
    people.write_text("address\n" + "".join(f"u{number}@example.com\n" for number in range(120)))
    whole, commits = Accounts.make_all, []

    async def fails(self: Accounts, prepared: object) -> list[str]:
        commits.append(len(made(out)))
        if len(commits) == 2:
            raise OSError(28, "No space left on device")
        return await whole(self, prepared)  # type: ignore[arg-type]

    monkeypatch.setattr(Accounts, "make_all", fails)
    line.run("user", "import", str(people), "--out", str(out), status=1)
    assert commits == [50, 100]
    monkeypatch.undo()
    line.run("user", "import", str(people), "--out", str(second))
    assert len(line.json("user", "list")) == 120
    assert len(made(second)) == 70
    valid = {one["address"]: one["device_password"] for one in made(out) + made(second)}
    for name in ("u0", "u60", "u119"):
        address = f"{name}@example.com"
        line.run("device", "list", address, "--names", stdin=valid[address] + "\n")
