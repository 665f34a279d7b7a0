"""`docs/states.md` shows the state tables of the sessions; this makes it, and fails when it is not what they say.

``python tests/protocols/test_states_document.py`` writes it anew.
"""

from enum import Enum
from pathlib import Path

from certmaild.protocols.imap import states as imap
from certmaild.protocols.pop3 import states as pop3
from certmaild.protocols.smtp import states as smtp
from certmaild.protocols.smtp.client import states as smtp_client

DOCUMENT = Path(__file__).parents[2] / "docs" / "states.md"
HEAD = """# States

Generated from the tables by `python tests/protocols/test_states_document.py`; a move that is not drawn is illegal.
"""


def diagram(title: str, table: dict[tuple[Enum, Enum], Enum]) -> str:
    """One Mermaid state diagram; moves between the same two states share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, move), after in table.items():
        arrows.setdefault((state.name, after.name), []).append(move.name)
    lines = [f"    {start} --> {end}: {', '.join(moves)}" for (start, end), moves in arrows.items()]
    return "\n".join([f"\n## {title}\n", "```mermaid", "stateDiagram-v2", *lines, "```", ""])


def document() -> str:
    """The whole page."""
    tables = (
        ("IMAP", imap.TRANSITIONS),
        ("POP3", pop3.TRANSITIONS),
        ("SMTP", smtp.TRANSITIONS),
        ("SMTP and LMTP, as a client", smtp_client.TRANSITIONS),
    )
    return HEAD + "".join(diagram(title, dict(table)) for title, table in tables)


def test_the_document_shows_the_tables() -> None:
    assert DOCUMENT.read_text() == document()


if __name__ == "__main__":
    DOCUMENT.write_text(document())
