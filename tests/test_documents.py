"""What the documents name exists: tests, files, commands of bench/."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*sorted((ROOT / "docs").glob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))]
TESTS = {path.name: path for path in (ROOT / "tests").rglob("*.py")}


def functions(path: Path) -> set[str]:
    """Names of all functions in a file, methods too."""
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_is_named_is_there(document: Path) -> None:
    text = document.read_text()
    for name, test in re.findall(r"(test_\w+\.py)::(\w+)", text):
        assert name in TESTS and test in functions(TESTS[name]), f"{name}::{test}"
    for name in re.findall(r"`(?:[\w/]*/)?(test_\w+\.py)`", text):
        assert name in TESTS, name
    for name in re.findall(r"`?\b((?:bench|docs|tests)/[\w/]+\.(?:py|md|txt|png|svg))\b", text):
        assert (ROOT / name).exists(), name
