"""`docs/operations.md` lists every key of the configuration file; a line not commented out shows the default."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from certmaild.config_file import Duration, File, Size, parse_duration, parse_size

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"
OWN = {"hostname", "domains", "data", "workers", "listen", "tls.certificate", "tls.key", "partner.domain"}
"""Examples of what each server has of its own: `listen` and `tls.names` in all their keys."""


def listed() -> dict[str, tuple[bool, object]]:
    """Each key in the listings, by its table and name: whether it is commented out, and its value."""
    found: dict[str, tuple[bool, object]] = {}
    for block in re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL):
        table = ""
        for line in block.splitlines():
            if heading := re.match(r"\[+([\w.]+)\]", line):
                table = f"{heading[1]}."
            elif key := re.match(r"(# )?(\w+) = (\[.*?\]|\"[^\"]*\"|\S+)", line):
                found[table + key[2]] = (key[1] is not None, tomllib.loads(f"x = {key[3]}")["x"])
    return found


def keys(kind: Any, table: str = "") -> Iterator[tuple[str, object]]:
    """Each key that may be written, and its default."""
    for field in msgspec.structs.fields(kind):
        of_tuple = getattr(field.type, "__args__", (None,))[0]
        inner = next((one for one in (field.type, of_tuple) if hasattr(one, "__struct_fields__")), None)
        name = table + field.encode_name
        if inner is None:
            yield name, field.default
        elif name != "limits":  # docs/limits.md has those
            yield from keys(inner, f"{name}.")


KEYS = dict(keys(File))


@pytest.mark.parametrize("key", KEYS)
def test_each_key_is_listed_and_its_default_is_true(key: str) -> None:
    is_comment, shown = listed()[key]
    default = KEYS[key]
    if key in OWN or key.startswith(("listen.", "tls.names.")) or is_comment:
        return
    if isinstance(default, Size):
        shown = parse_size(shown)
    elif isinstance(default, Duration):
        shown = parse_duration(shown)
    assert (tuple(shown) if isinstance(shown, list) else shown) == default


def test_no_key_is_listed_that_is_none() -> None:
    strange = [key for key in listed() if key not in KEYS and not key.startswith("limits.")]
    assert strange == []
