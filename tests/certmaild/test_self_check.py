"""`certmaild check` says what a server answered as the server said it."""

import smtplib

import pytest

from certmaild.self_check import words_of


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (smtplib.SMTPSenderRefused(452, b"4.3.1 Not enough storage", "a@b"), "it answers 452 4.3.1 Not enough storage"),
        (smtplib.SMTPRecipientsRefused({"a@b": (550, b"5.1.1 None")}), "it answers 550 5.1.1 None"),
        (smtplib.SMTPDataError(554, b"5.6.0 \xff"), "it answers 554 5.6.0 \ufffd"),
        (OSError("no route"), "no route"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_problems_in_words(problem: Exception, words: str) -> None:
    assert words_of(problem) == words
