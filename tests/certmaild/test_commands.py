"""The command line over a real store: what it prints, how it exits, and that it works beside a server."""

import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from command_support import Line, entry, make_line

from certmaild import config as configuration
from certmaild.commands import main as commands
from certmaild.commands.common import octets_text, parse_device_id
from certmaild.config import ConfigError
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.devices import id_text
from certmaild.mailbox.errors import StoreFull, StoreUnavailable
from certmaild.mailbox.identifiers import CredentialId
from certmaild.mailbox.layout_accounts import PICKUP_ID, SINGLE_PASSWORD_ID
from certmaild.setup import NotSetUp, opened, set_up

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return make_line(tmp_path)


def test_accounts_from_the_command_line(line: Line) -> None:
    made = line.json("user", "add", "Alice@example.com", "--quota", "5MiB")
    assert made["address"] == "alice@example.com"
    assert made["device_password"]
    assert made["recovery_code"]
    (listed,) = line.json("user", "list")
    assert listed["octets_limit"] == 5 * 2**20
    assert listed["state"] == "active"
    table = line.run("user", "list").stdout
    assert "alice@example.com" in table
    assert "5.0 MiB" in table
    line.run("user", "disable", "alice@example.com")
    assert line.json("user", "show", "alice@example.com")["state"] == "disabled"
    line.run("user", "enable", "alice@example.com")
    line.run("user", "set", "alice@example.com", "--quota", "none")
    assert line.json("user", "show", "alice@example.com")["octets_limit"] is None
    line.run("user", "remove", "alice@example.com")
    assert line.json("user", "list") == []


def test_settings_change_one_by_one_and_are_shown(line: Line) -> None:
    line.run("user", "add", "alice@example.com", "--quota", "5MiB")
    line.run("user", "add", "app@example.com", "--sent", "server")
    settings = ("sent", "retrieve_marks_seen", "octets_limit", "messages_limit")

    def shown(name: str) -> list[Any]:
        view = line.json("user", "show", f"{name}@example.com")
        return [view[setting] for setting in settings]

    assert shown("alice") == ["client", False, 5 * 2**20, None]
    assert shown("app") == ["server", False, None, None]
    assert line.json("user", "set", "alice@example.com", "--sent", "server")["sent"] == "server"
    assert shown("alice") == ["server", False, 5 * 2**20, None]
    line.run("user", "set", "alice@example.com", "--retrieve-marks-seen", "--messages", "7", "--quota", "1GiB")
    assert shown("alice") == ["server", True, 2**30, 7]
    text = line.run("user", "set", "alice@example.com", "--retrieve-marks-nothing", "--messages", "NONE").stdout
    assert "retrieve marks seen: no" in text
    assert shown("alice") == ["server", False, 2**30, None]
    line.run("user", "disable", "alice@example.com")
    line.run("user", "set", "alice@example.com", "--sent", "client", "--quota", "none")
    assert line.json("user", "show", "alice@example.com")["state"] == "disabled"
    assert shown("alice") == ["client", False, None, None]


def test_settings_that_make_no_sense_are_refused(line: Line) -> None:
    line.run("user", "add", "alice@example.com")
    before = line.json("user", "show", "alice@example.com")
    for words in (
        (),
        ("--sent", "nobody"),
        ("--messages", "0"),
        ("--messages", "many"),
        ("--quota", "99999999999GiB"),
    ):
        line.run("user", "set", "alice@example.com", *words, status=2)
    line.run("user", "set", "bob@example.com", "--sent", "server", status=1)
    assert line.json("user", "show", "alice@example.com") == before


def test_refusals_are_one_sentence(line: Line) -> None:
    line.run("user", "add", "alice@example.com")
    assert "already" in line.run("user", "add", "alice@example.com", status=1).stderr
    assert "hosted" in line.run("user", "add", "alice@other.example", status=1).stderr
    line.run("user", "add", "nonsense", status=2)
    line.run("user", "add", "bob@example.com", "--quota", "much", status=2)
    line.run("nonsense", status=2)
    line.run("user", "show", "bob@example.com", status=1)
    line.run("device", "revoke", "alice@example.com", "0000", status=1)
    line.run("device", "revoke", "alice@example.com", "!!", status=1)
    line.run("init", "--hostname", "localhost", "--domain", "example.com", status=1)
    line.run("user", "add", "bob@example.com", "--password-stdin", status=1)


def test_passwords_and_devices(line: Line) -> None:
    made = line.json("user", "add", "bob@example.com", "--password-stdin", stdin="first pässword\n")
    assert made["device_password"] is None
    device = line.json("device", "add", "bob@example.com", "--name", "phone", stdin="first pässword\n")
    assert {one["kind"]: one["name"] for one in line.json("device", "list", "bob@example.com")}["device"] is None
    named = line.json("device", "list", "bob@example.com", "--names", stdin=device["device_password"] + "\n")
    assert {one["kind"]: one["name"] for one in named}["device"] == "phone"
    line.run("user", "password", "bob@example.com", stdin="wrong\nsecond\n", status=1)
    line.run("user", "password", "bob@example.com", stdin=made["recovery_code"] + "\nsecond\n")
    line.run("device", "add", "bob@example.com", stdin="first pässword\n", status=1)
    line.run("device", "add", "bob@example.com", stdin="second\n")
    line.run("device", "revoke", "bob@example.com", device["id"])
    line.run("device", "add", "bob@example.com", stdin=device["device_password"] + "\n", status=1)
    over = line.json("user", "password", "bob@example.com", "--start-over")
    assert over["user_id"] != made["user_id"]
    assert [one["state"] for one in line.json("user", "list")] == ["active", "parked"]
    line.run("user", "remove", "bob@example.com", "--parked")
    assert [one["user_id"] for one in line.json("user", "list")] == [over["user_id"]]


def test_aliases_and_status(line: Line) -> None:
    line.run("user", "add", "alice@example.com")
    line.run("alias", "add", "sales@example.com", "alice@example.com")
    assert line.json("alias", "list") == [{"alias": "sales@example.com", "address": "alice@example.com"}]
    assert "sales@example.com" in line.run("alias", "list").stdout
    status = line.json("status")
    assert status["accounts"] == {"active": 1, "disabled": 0, "parked": 0}
    assert "1 active" in line.run("status").stdout
    line.run("alias", "remove", "sales@example.com")
    line.run("alias", "remove", "sales@example.com", status=1)


def test_a_trace_is_found_in_the_log(line: Line, tmp_path: Path) -> None:
    mark, address = line.run("trace", "Bob@Partner.example").stdout.split()
    assert (len(mark), address) == (16, "Bob@Partner.example")
    assert line.run("trace", "bob@partner.example").stdout.split()[0] == mark
    log = tmp_path / "twistd.log"
    log.write_text(f"message 1a2b3c from 192.0.2.1: accepted; sender {mark}\nmessage 4d5e6f: sender 0123456789abcdef\n")
    assert line.run("trace", "bob@partner.example", "--log", str(log)).stdout.startswith("message 1a2b3c")
    assert line.run("trace", "4d5e6f", "--log", str(log)).stdout.startswith("message 4d5e6f")
    line.run("trace", "eve@partner.example", "--log", str(log), status=1)


def test_config_check(line: Line, tmp_path: Path) -> None:
    assert "fit for use" in line.run("config", "check", str(line.config)).stdout
    assert "fit for use" in line.run("config", "check").stdout
    nowhere = tmp_path / "nowhere.toml"
    nowhere.write_text(line.config.read_text() + "\n")
    shown = line.run("--data", str(tmp_path / "nothing"), "config", "check", str(nowhere))
    assert "there is no store in" in shown.stderr and "fit for use" in shown.stdout
    assert CliRunner().invoke(entry, ["config", "check"]).exit_code == 2
    bad = tmp_path / "bad.toml"
    bad.write_text('hostnam = "x"\n')
    assert "hostname" in line.run("config", "check", str(bad), status=1).stderr
    line.run("config", "check", str(tmp_path / "none.toml"), status=1)


def test_names_of_the_server_s_own_are_nobody_s(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("help@example.com", "Devices+x@example.com"):
        assert "choose another name" in line.run("user", "add", name, status=1).stderr
    line.run("user", "add", "ann@example.com")
    assert "choose another name" in line.run("alias", "add", "status@example.com", "ann@example.com", status=1).stderr
    monkeypatch.setattr("certmaild.commands.common.SERVICES", frozenset())
    line.run("user", "add", "help@example.com")
    shown = line.run("config", "check")
    assert "help@example.com is a mailbox or an alias" in shown.stderr and "fit for use" in shown.stdout


def test_config_check_tries_the_templates_of_notices(line: Line, tmp_path: Path) -> None:
    with line.config.open("a") as file:
        file.write('[invite]\ndomain = "guest.example.com"\nlanguages = ["en", "de"]\ntemplates = "words"\n')
    (tmp_path / "words").mkdir()
    own = tmp_path / "words" / "notice.de.j2"
    own.write_text("Subject: Post\n\nPost für {{ account }} von {{ writers[0] }}\n")
    assert "fit for use" in line.run("config", "check").stdout
    own.write_text("Subject: Post\n\nKlicken Sie auf https://example.com/\n")
    (problem,) = line.json("config", "check", status=1)["problems"]
    assert "notice.de.j2" in problem and "a link of" in problem


def test_check_says_which_step_failed(line: Line) -> None:
    result = CliRunner().invoke(entry, ["--config", str(line.config), "check"])
    assert result.exit_code == 1
    assert "imaps" in result.stderr
    assert line.json("user", "list") == []


def test_secrets_are_printed_once_and_logged_never(line: Line, tmp_path: Path, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    made = line.json("user", "add", "alice@example.com")
    later = (
        line.run("user", "show", "alice@example.com").output + line.run("device", "list", "alice@example.com").output
    )
    written = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    for secret in (made["device_password"], made["recovery_code"]):
        assert secret not in later
        assert secret not in caplog.text
        assert secret.encode() not in written
        assert secret.replace("-", "").encode() not in written


def test_without_a_store(tmp_path: Path) -> None:
    result = CliRunner().invoke(entry, ["--data", str(tmp_path / "none"), "user", "list"])
    assert result.exit_code == 1
    assert "certmaild init" in result.stderr
    with pytest.raises(NotSetUp), opened(configuration.default(tmp_path / "none")):
        pass


def test_init_writes_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "certmaild.toml"
    data = tmp_path / "data"
    words = [
        "--config",
        str(path),
        "--data",
        str(data),
        "init",
        "--hostname",
        "mail.example.org",
        "--domain",
        "Bücher.example",
    ]
    result = CliRunner().invoke(entry, words)
    assert result.exit_code == 0, result.output
    loaded = configuration.load(path)
    assert loaded.hostname == "mail.example.org"
    assert loaded.domains == ("xn--bcher-kva.example",)
    assert loaded.data == data
    assert loaded.listen.imaps == 993


def test_init_asks_for_names_only_where_no_file_says_them(tmp_path: Path) -> None:
    config = tmp_path / "certmaild.toml"
    assert "--hostname and --domain say what to write" in Line(config).run("init", status=2).stderr
    assert not config.exists()
    config.write_text(f'hostname = "localhost"\ndomains = ["example.com"]\ndata = "{tmp_path / "data"}"\n')
    assert "user add NAME@example.com" in Line(config).run("init").stdout
    assert "is for localhost and example.com" in Line(config).run("init", "--domain", "a.example", status=1).stderr


def test_try_again_and_the_unforeseen() -> None:
    assert commands.sentence_for(StoreUnavailable()) == ("The store cannot be used now; try again later.", 75)
    assert commands.sentence_for(StoreFull("the disk is full")) == (
        "The disk is full, or has less room than free_disk: make room and try again.",
        75,
    )
    assert commands.sentence_for(ConfigError("did you mean name?")) == ("did you mean name?", 1)
    assert commands.sentence_for(sqlite3.Error()) is None


def test_a_damaged_store_is_refused_in_words(line: Line) -> None:
    store = line.config.parent / "data" / "store"
    (store / "data.mdb").write_bytes(bytes(8192))
    assert f"{store} is damaged" in line.run("status", status=1).stderr
    assert "put the last backup in its place" in line.run("user", "list", status=1).stderr


def test_a_store_restored_without_its_certificate_gets_a_new_one(line: Line) -> None:
    data = line.config.parent / "data"
    line.run("user", "add", "ann@example.com")
    words = ("init", "--hostname", "localhost", "--domain", "example.com")
    assert "already; nothing is left to do" in line.run(*words, status=1).stderr
    secrets = {one.name: one.read_bytes() for one in (data / "secrets").iterdir()}
    shutil.rmtree(data / "tls")
    (data / "ca.pem").unlink()
    assert "certmaild init makes one" in line.run("config", "check").stderr
    assert "made the certificate that was missing" in line.run(*words).stdout
    assert {one.name: one.read_bytes() for one in (data / "secrets").iterdir()} == secrets
    assert [one["address"] for one in line.json("user", "list")] == ["ann@example.com"]
    assert (data / "ca.pem").exists()


def test_many_aliases_leave_the_list_of_accounts_narrow(line: Line) -> None:
    line.run("user", "add", "ann@example.com")
    for number in range(3):
        line.run("alias", "add", f"alias{number}@example.com", "ann@example.com")
    shown = line.run("user", "list").stdout.splitlines()
    assert shown[1].split()[-1] == "3"
    assert max(map(len, shown)) < 80
    assert len(line.json("user", "list")[0]["aliases"]) == 3


def test_nobody_listens(line: Line) -> None:
    failed = line.run("check", status=1)
    assert failed.stderr == "imaps: log in, read, compare: nobody listens there; start the daemon, or read its log.\n"
    as_json = CliRunner().invoke(entry, ["--config", str(line.config), "check", "--json"])
    assert as_json.exit_code == 1
    assert [one["name"] for one in json.loads(as_json.stdout)] == ["imaps: log in, read, compare"]
    assert line.json("user", "list") == []


def test_commands_say_what_they_do_in_80_columns() -> None:
    for words in ([], ["user"], ["guest"], ["device"], ["alias"], ["config"], ["partner"], ["group"], ["queue"]):
        shown = CliRunner().invoke(entry, [*words, "--help"], terminal_width=80).stdout
        assert "..." not in shown.replace("[ARGS]...", "")


def run_process(*words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """A command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        timeout=60,
    )


def test_beside_an_open_store(line: Line) -> None:
    """The server has the store open; the command adds an account, and the server sees it."""
    with opened(configuration.load(line.config)) as (driver, engine, secrets):
        from certmaild.mailbox.addresses import canonical
        from certmaild.mailbox.directory import Directory

        directory = Directory(engine, secrets)
        assert driver.run(directory.find(canonical("alice@example.com"))) is None
        done = run_process("certmaild.commands.main", "--config", str(line.config), "user", "add", "alice@example.com")
        assert done.returncode == 0, done.stderr
        assert "Recovery code" in done.stdout
        assert driver.run(directory.find(canonical("alice@example.com"))) is not None


# The first start.


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data"


def test_the_first_start_in_a_child_process(data: Path) -> None:
    done = run_process("certmaild.setup", "--data", str(data))
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["account"] == "me@localhost"
    assert made["device_password"]
    assert made["ca_file"] == str(data / "ca.pem")
    assert "port 1993" in made["settings"]
    for path in (data, data / "secrets", data / "store"):
        assert path.stat().st_mode & 0o777 == 0o700, path
    for path in (data / "secrets").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path
    again = json.loads(run_process("certmaild.setup", "--data", str(data)).stdout)
    assert again["account"] is None
    assert again["ca_file"] == made["ca_file"]


@pytest.mark.parametrize("name", ["rows", "delivery", "pepper-1", "queue"])
def test_a_missing_or_foreign_secret_is_named_and_never_made_anew(data: Path, name: str) -> None:
    config = configuration.default(data)
    set_up(config)
    path = config.secrets / name
    kept = path.read_bytes()
    path.unlink()
    for words in (("certmaild.setup",), ("certmaild.commands.main",)):
        rest = ["--data", str(data)] + (["status"] if words[0].endswith("main") else [])
        done = run_process(*words, *rest)
        assert done.returncode == 1
        assert name in done.stderr
        assert not path.exists()
    path.write_bytes(bytes(reversed(kept)))
    path.chmod(0o600)
    done = run_process("certmaild.setup", "--data", str(data))
    assert done.returncode == 1
    assert name in done.stderr


def test_a_set_up_that_was_cut_off_is_completed(data: Path) -> None:
    config = configuration.default(data)
    data.mkdir(mode=0o700)
    before = ServerSecrets.create(config.secrets).check_values()
    made = set_up(config)
    assert made.account == "me@localhost"
    assert ServerSecrets.load(config.secrets).check_values() == before


def test_small_texts() -> None:
    assert octets_text(None) == "no limit"
    assert octets_text(0) == "0 B"
    assert octets_text(5 * 2**30) == "5.0 GiB"
    assert octets_text(5 * 2**50) == "5242880.0 GiB"
    for one in (0, 1, 31, 0xABCDE, (1 << 20) - 1):
        assert parse_device_id(id_text(CredentialId(one)).lower()) == one
    assert [(id_text(one), parse_device_id(id_text(one))) for one in (SINGLE_PASSWORD_ID, PICKUP_ID)] == [
        ("password", SINGLE_PASSWORD_ID),
        ("pickup", PICKUP_ID),
    ]
