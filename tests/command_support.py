"""The command `certmaild` in this process, over a store of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from certmaild.commands import main as commands


class Line:
    """`certmaild --config FILE`, in this process."""

    def __init__(self, config: Path) -> None:
        self.config = config

    def run(self, *words: str, stdin: str = "", status: int = 0) -> Result:
        """Run it; its exit status must be ``status``."""
        result = CliRunner().invoke(entry, ["--config", str(self.config), *words], input=stdin)
        assert result.exit_code == status, result.output
        assert "Traceback" not in result.output
        if status:
            assert len(result.stderr.strip().splitlines()) <= 1 or status == 2, result.stderr
            assert result.output
        return result

    def run_apart(self, *words: str) -> str:
        """Standard output of the command in a process of its own: beside a store that is open in this one."""
        whole = [sys.executable, "-m", "certmaild.commands.main", "--config", str(self.config), *words]
        done = subprocess.run(whole, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *words: str, stdin: str = "", status: int = 0) -> Any:
        """What it prints as JSON."""
        return json.loads(self.run(*words, "--json", stdin=stdin, status=status).stdout)


class _Entry:
    """Lets CliRunner call what the console script calls."""

    name = "certmaild"

    def main(self, args: list[str], **_: Any) -> None:
        sys.exit(commands.run(list(args)))


entry: Any = _Entry()


def make_line(folder: Path, *, tables: str = "", hostname: str = "localhost", ports: str = "imaps = 1") -> Line:
    """A server that is set up for ``example.com``; ``tables`` is put at the configuration's end."""
    config = folder / "certmaild.toml"
    config.write_text(
        f'hostname = "{hostname}"\ndomains = ["example.com"]\ndata = "{folder / "data"}"\n'
        f'[listen]\naddress = ["127.0.0.1"]\n{ports}\n[passwords]\nrounds = 64\n{tables}'
    )
    made = Line(config)
    made.run("init", "--hostname", hostname, "--domain", "example.com")
    return made
