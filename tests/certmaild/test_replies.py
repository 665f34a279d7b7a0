"""What servers' refusals mean for the sender."""

import pytest

from certmaild.outbound.replies import problem_of
from certmaild.outbound.values import Problem
from certmaild.protocols.smtp.client.grammar import Reply

NOW, NEVER = "cannot take the message now, and asks to try again later", "refuses the message"


@pytest.mark.parametrize(
    ("reply", "permanent", "code", "enhanced", "words"),
    [
        (Reply(550, "5.1.1", ("No",)), True, 550, "5.1.1", f"{NEVER}: there is no such mailbox."),
        (Reply(452, "4.2.2", ("Full",)), False, 452, "4.2.2", f"{NOW}: the mailbox is full."),
        (Reply(550, "5.7.1", ("Spam",)), True, 550, "5.7.1", f"{NEVER}: that is its policy."),
        (Reply(554, "", ("No",)), True, 554, "5.0.0", f"{NEVER}."),
        (Reply(451, "", ("Later",)), False, 451, "4.0.0", f"{NOW}."),
        # Too many recipients: the rest follows in another transaction (RFC 5321 section 4.5.3.1.10).
        (Reply(552, "5.5.3", ("Many",)), False, 452, "4.5.3", f"{NOW}: these are too many recipients at once."),
        (Reply(552, "5.2.2", ("Full",)), True, 552, "5.2.2", f"{NEVER}: the mailbox is full."),
    ],
)
def test_refusals(reply: Reply, permanent: bool, code: int, enhanced: str, words: str) -> None:
    said = f"The server mx.p.example {words}"
    assert problem_of(reply, "mx.p.example") == Problem(permanent, code, enhanced, said, "mx.p.example", str(reply))
