"""The operator's program that carries codes: what it is given, and what becomes of one that fails."""

import stat
from pathlib import Path
from typing import Any

import pytest
from support import run
from twisted.logger import capturedLogs

from certmaild.guests import code_command
from certmaild.guests.code_command import CodeCommand
from certmaild.keystore.codes import new_pickup_code

CODE = new_pickup_code()
WHO = ("bob@far.example", "bob.far.example@guest.example.com", "ann@example.com")


async def here(work: Any) -> Any:
    return work()


def program(folder: Path, text: str) -> str:
    path = folder / "carry"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(stat.S_IRWXU)
    return str(path)


def carried(*command: str, who: tuple[str, str, str] = WHO) -> bool:
    return run(CodeCommand(lambda: command, here).carry(CODE, *who))


def test_the_code_comes_on_standard_input_alone(tmp_path: Path) -> None:
    own = program(tmp_path, f'cat > {tmp_path}/in; printf "%s\\n" "$@" > {tmp_path}/arguments; env > {tmp_path}/env')
    assert carried(own, "--from", "certmaild")
    assert (tmp_path / "in").read_text() == CODE.text + "\n"
    assert (tmp_path / "arguments").read_text().splitlines() == ["--from", "certmaild", *WHO]
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names <= {"PATH", "LANG", "PWD", "SHLVL", "_", "OLDPWD"}


@pytest.mark.parametrize(
    ("text", "said"),
    [("cat; exit 3", "its exit status is 3"), ("exec sleep 60", "was ended"), (None, "could not be run")],
)
def test_what_fails_is_logged_without_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, said: str
) -> None:
    monkeypatch.setattr(code_command, "TIME_S", 1)
    with capturedLogs() as events:
        assert not carried(str(tmp_path / "none") if text is None else program(tmp_path, text))
    assert said in str(events[-1]["ended"])
    assert CODE.text not in str(events)


def test_an_address_that_looks_like_an_option_is_not_given_to_it(tmp_path: Path) -> None:
    own = program(tmp_path, f"touch {tmp_path}/ran")
    assert not carried(own, who=("--to=eve@far.example", *WHO[1:]))
    assert not (tmp_path / "ran").exists()


def test_without_a_command_there_is_nothing_to_do() -> None:
    assert carried()
    assert not CodeCommand(lambda: (), here).is_set
