"""What notices say: five languages, whatever an operator's template does, and never a link."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from twisted.logger import capturedLogs

from certmaild.client_setup.settings import ClientSettings, Security, Server, Speaks
from certmaild.guests.notice_text import SHIPPED, WIDTH, NoticeFacts, notice_text, template_problems
from certmaild.reports.links import link_in

ACCOUNT = "bob.gmail.com@guest.example.com"
HOST = "mx.example.com"
SETTINGS = ClientSettings(
    ACCOUNT,
    (Server(Speaks.IMAP, HOST, 993, Security.TLS), Server(Speaks.POP3, HOST, 995, Security.TLS)),
    (Server(Speaks.SMTP, HOST, 465, Security.TLS),),
    "bob@gmail.com",
)
FACTS = NoticeFacts(
    ("Ann Example (ann@example.com)",),
    1,
    datetime(2026, 11, 8, 9, 3, tzinfo=UTC),
    SETTINGS,
    "example.com",
    "postmaster@example.com",
    90,
    False,
)
MANY = replace(FACTS, writers=(*FACTS.writers, "zoe@example.com"), count=12)


def test_in_english() -> None:
    notice = notice_text(FACTS, ("en",), None)
    assert (notice.subject, notice.languages) == ("A sealed message is waiting for you", ("en",))
    text = " ".join(notice.text.split())
    for said in (
        "Ann Example (ann@example.com) has written to you.",
        "on the mail server of example.com since 8 November 2026 at 09:03 (UTC)",
        f"E-mail address: {ACCOUNT} Password: the code that the sender gives you",
        f"Incoming mail: {HOST}, IMAP port 993 or POP3 port 995, SSL/TLS",
        f"Outgoing mail: {HOST}, SMTP port 465, SSL/TLS",
        f"User name: {ACCOUNT}",
        "gives you the code by telephone. It never comes by a message like this one",
        "the time is recorded, and the sender can see it. By opening them you agree to this.",
        "removed after 90 days",
        "no link, no attachment and no code",
        "write to postmaster@example.com",
    ):
        assert said in text
    assert "after" not in notice_text(replace(FACTS, unused_days=0), ("en",), None).text


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("facts", [FACTS, MANY, replace(FACTS, at=datetime(2027, 1, 1, tzinfo=UTC))])
@pytest.mark.parametrize("language", SHIPPED)
def test_every_language_says_what_is_needed(language: str, facts: NoticeFacts, joined: bool) -> None:
    notice = notice_text(replace(facts, joined=joined), (language,), None)
    text = notice.text
    assert notice.languages == (language,)
    assert all(writer in text for writer in facts.writers) and ACCOUNT in text and HOST in text
    assert facts.count == 1 or str(facts.count) in text
    assert str(facts.at.year) in text and "postmaster@example.com" in text
    assert ("90" in text) is not joined
    assert link_in(text) is link_in(notice.subject) is None
    assert all(len(line) <= WIDTH or line.startswith(" ") for line in text.split("\n"))
    assert "\n\n\n" not in text and "{" not in text and text.endswith("\n")


def test_all_languages_in_one_notice() -> None:
    notice = notice_text(FACTS, ("en", "de", "fr", "de"), None)
    assert notice.languages == ("en", "de", "fr")
    assert notice.subject.count(" / ") == 2
    top, *_ = notice.text.split("Dear Sir or Madam")
    assert top.split("\n") == [
        "Den deutschen Text finden Sie weiter unten.",
        "Le texte français se trouve plus bas.",
        "",
        "",
    ]
    assert notice.text.index("Dear Sir") < notice.text.index("Sehr geehrte") < notice.text.index("Madame, Monsieur")


def template(folder: Path, text: str, language: str = "en") -> Path:
    (folder / f"notice.{language}.j2").write_text(text, "utf-8")
    return folder


def test_the_operators_own_template_goes_first(tmp_path: Path) -> None:
    own = template(tmp_path, "Subject: Post\n\nHallo {{ account }},\n{{ count }} x\n\n{{ settings }}\n", "pt")
    notice = notice_text(FACTS, ("pt",), own)
    assert (notice.subject, notice.languages) == ("Post", ("pt",))
    assert notice.text.startswith(f"Hallo {ACCOUNT}, 1 x\n\nIncoming mail: {HOST}")
    assert template_problems(FACTS, ("pt", "de"), own) == []
    # It is read anew each time.
    template(tmp_path, "Subject: Other\n\ntext\n", "pt")
    assert notice_text(FACTS, ("pt",), own).subject == "Other"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("Subject: x\n\nSee https://example.com/{{ account }}", "a link of 'https://example.com/"),
        ("Subject: x\n\nSee www.example.com", "a link"),
        ("Subject: mailto:a@b.example\n\ntext", "a link"),
        ('Subject: x\n\n<a href="x">here</a>', "a link"),
        ("Subject: x\n\n{{ nothing }}", "UndefinedError"),
        ("Subject: x\n\n{% if %}", "TemplateSyntaxError"),
        ("Subject: x\n\n{{ count / 0 }}", "ZeroDivisionError"),
        ("Subject: x\n\n{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("Subject: x\n\n{% for i in range(1000000) %}x{% endfor %}", "OverflowError"),
        ("Subject: x\n\n{{ 'x ' * 20000 }}", "more than"),
        ("Subject: x\n\n", "no text"),
        ("text without a subject", "Subject:"),
        ("Subject: a\x07b\n\ntext", "Subject:"),
        ("Subject: x\nBcc: y\n\ntext", "Subject:"),
        ("Subject: x\n\n" + "x" * 20_000, "more than"),
    ],
)
def test_a_template_that_is_unfit_gives_way_to_ours(tmp_path: Path, source: str, why: str) -> None:
    own = template(tmp_path, source)
    with capturedLogs() as logs:
        notice = notice_text(FACTS, ("en",), own)
    assert notice == notice_text(FACTS, ("en",), None)
    assert [entry["name"] for entry in logs if "cannot be used" in entry["log_format"]] == ["notice.en.j2"]
    (problem,) = template_problems(FACTS, ("en",), own)
    assert problem.startswith("the template notice.en.j2 in ") and why in problem


def test_names_that_have_to_be_typed_are_no_links(tmp_path: Path) -> None:
    """However server, domain and guests are called, a notice goes out."""
    host = "www.clinic.example"
    servers = [[replace(one, host=host) for one in some] for some in (SETTINGS.incoming, SETTINGS.outgoing)]
    settings = ClientSettings("www.example.org@www.clinic.example", tuple(servers[0]), tuple(servers[1]))
    writers = ("Ann (?@www.partner.example)", "mailto.tel@www.clinic.example")
    facts = replace(FACTS, settings=settings, domain=host, postmaster=f"postmaster@{host}", writers=writers)
    with capturedLogs() as logs:
        notice = notice_text(facts, SHIPPED, None)
    assert notice.languages == SHIPPED and notice.text.count(host) > 10 and not logs
    own = template(tmp_path, "Subject: x\n\n{{ domain }}/log-in")
    assert "a link" in template_problems(facts, ("en",), own)[0]


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "notice.en.j2").write_bytes(b"Subject: \xff\n\ntext")
    assert "cannot be read" in template_problems(FACTS, ("en",), tmp_path)[0]
    assert template_problems(FACTS, ("en",), tmp_path / "none")[0].endswith("none cannot be read.")
    assert template_problems(FACTS, ("pt",), None) == ["there is no template notice.pt.j2 for the language pt."]
    # Whoever is written to in it is written to in English.
    assert notice_text(FACTS, ("pt",), None).languages == ("en",)
    assert notice_text(FACTS, ("../notice",), tmp_path).languages == ("en",)
    # A template for a language that nobody is written to in is looked at too.
    (tmp_path / "notice.en.j2").unlink()
    template(tmp_path, "nothing", "nl")
    assert "notice.nl.j2" in template_problems(FACTS, ("en",), tmp_path)[0]


def test_a_template_is_only_text(tmp_path: Path) -> None:
    own = template(tmp_path, "Subject: x\n\nDear\x1b[31m {{ writers[0] }}\u202e\r\n\r\nend\x00")
    assert notice_text(FACTS, ("en",), own).text == "Dear [31m Ann Example (ann@example.com)\n\nend\n"
