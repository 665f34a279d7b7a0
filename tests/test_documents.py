"""What the documents name exists: tests, files, commands of bench/."""

import ast
import configparser
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*sorted((ROOT / "docs").glob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))]
TESTS = list((ROOT / "tests").rglob("*.py"))


def functions(path: Path) -> set[str]:
    """Names of all functions in a file, methods too."""
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_is_named_is_there(document: Path) -> None:
    text = document.read_text()
    for name, test in re.findall(r"(test_\w+\.py)::(\w+)", text):
        assert any(test in functions(path) for path in TESTS if path.name == name), f"{name}::{test}"
    for name in re.findall(r"`(?:[\w/]*/)?(test_\w+\.py)`", text):
        assert any(path.name == name for path in TESTS), name
    for name in re.findall(r"`?\b((?:bench|docs|tests)/[\w/]+\.(?:py|md|txt|png|svg))\b", text):
        assert (ROOT / name).exists(), name


def test_every_package_is_installed() -> None:
    """The tree's own tests import what setup.cfg forgets; whoever follows the README gets only what it names."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    there = {
        ".".join(Path(folder).relative_to(ROOT).parts)
        for folder, _, files in os.walk(ROOT / "certmaild", followlinks=True)
        if "__init__.py" in files
    }
    assert there | {"twisted.plugins"} == set(setup["options"]["packages"].split())


def test_every_requirement_is_in_the_readme() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    needed = {re.split(r"[>=\[]", line)[0] for line in setup["options"]["install_requires"].split()}
    table = (ROOT / "README.md").read_text().partition("## What it stands on")[2]
    rows = re.findall(r"^\| ([a-z][^|]*) \|", table, re.M)
    named = {re.split(r"[\[ ]", name)[0] for row in rows for name in row.split(", ")}
    assert needed == named - {"package"}
