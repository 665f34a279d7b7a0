"""What a notice says: templates (Jinja2, sandboxed), a file a language, the operator's own before ours.

A template begins with ``Subject:`` and, if it likes, ``Below:`` (what stands above the text of another language when
this one follows), then a blank line. These are fixed words; only the text after them is a template. Lines that are not
indented are filled anew.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path

from jinja2 import StrictUndefined, Template
from jinja2.sandbox import SandboxedEnvironment
from twisted.logger import Logger

from certmaild.client_setup.settings import ClientSettings, in_words, settings_for
from certmaild.config_values import Config
from certmaild.reports.links import link_in

log = Logger()

SHIPPED = ("en", "de", "fr", "es", "it")
"""Languages that have a template of ours."""
MAX_OCTETS = 16 * 1024
"""Of a template, and of what becomes of it."""
WIDTH = 72
_OWN = files("certmaild.guests") / "templates"
_BETWEEN = "\n" + "-" * WIDTH + "\n\n"
_ENVIRONMENT = SandboxedEnvironment(
    undefined=StrictUndefined,
    autoescape=False,  # it is text/plain
    trim_blocks=True,
    lstrip_blocks=True,
)


class TemplateUnfit(Exception):
    """A template makes no notice; the text is a clause."""


@dataclass(frozen=True, slots=True)
class NoticeFacts:
    """What a template can say."""

    writers: tuple[str, ...]
    """Names and addresses, fit to be shown; at least one."""
    count: int
    """Messages that wait; at least 1."""
    at: datetime
    """When the latest came, or the mailbox was looked at last, in UTC."""
    settings: ClientSettings
    domain: str
    """The server's first domain: in whose name it writes."""
    postmaster: str
    unused_days: int
    """After which a mailbox that nobody opens is removed; 0: never."""
    joined: bool
    """He has a password of his own: the notice reminds him, and speaks of no code."""


@dataclass(frozen=True, slots=True)
class NoticeText:
    """What is sent."""

    subject: str
    text: str
    """Lines that end in LF."""
    languages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    subject: str
    below: str
    text: str


def notice_text(facts: NoticeFacts, languages: Sequence[str], folder: Path | None) -> NoticeText:
    """The notice in all these languages, one after the other.

    ``folder`` holds the operator's templates. One of his that is unfit is replaced by ours, with an error in the log;
    a language that nobody has a template for, by English.
    """
    pieces = {language: _piece(facts, language, folder) for language in dict.fromkeys(languages)}
    found = {language: piece for language, piece in pieces.items() if piece is not None}
    if not found:
        found = {"en": _rendered(_shipped("en"), facts, "en")}
    text = _BETWEEN.join(piece.text for piece in found.values())
    if below := "\n".join(piece.below for piece in list(found.values())[1:] if piece.below):
        text = f"{below}\n\n{text}"
    return NoticeText(" / ".join(piece.subject for piece in found.values()), text, tuple(found))


def check_templates(config: Config) -> list[str]:
    """What is wrong with the templates that a configuration needs and names, in sentences."""
    invites = config.invite
    if invites.domain is None:
        return []
    domain = config.domains[0]
    facts = NoticeFacts(
        (f"Ann Example (ann@{domain})", f"ben@{domain}"),
        2,
        datetime(2026, 1, 31, 9, 5, tzinfo=UTC),
        settings_for(config, f"bob.elsewhere.example@{invites.domain}", ordinary="bob@elsewhere.example"),
        domain,
        f"postmaster@{domain}",
        invites.unused_days,
        False,
    )
    languages = (*invites.languages, *(one.language for one in invites.domains if one.language))
    return template_problems(facts, languages, invites.templates)


def template_problems(facts: NoticeFacts, languages: Sequence[str], folder: Path | None) -> list[str]:
    """What is wrong with the templates of these languages, and with all in the folder; in sentences."""
    problems = []
    own = sorted(path.name[len("notice.") : -len(".j2")] for path in folder.glob("notice.*.j2")) if folder else []
    if folder is not None and not folder.is_dir():
        problems.append(f"the directory of templates {folder} cannot be read.")
    for language in dict.fromkeys([*languages, *own]):
        source = None
        try:
            source = _operators(language, folder)
            if source is not None:
                for joined in (False, True):
                    _rendered(source, replace(facts, joined=joined), language)
        except TemplateUnfit as unfit:
            problems.append(f"the template {_name(language)} in {folder} cannot be used: {unfit}.")
            continue
        if source is None and language not in SHIPPED:
            problems.append(f"there is no template {_name(language)} for the language {language}.")
    return problems


def _piece(facts: NoticeFacts, language: str, folder: Path | None) -> _Piece | None:
    try:
        source = _operators(language, folder)
        if source is not None:
            return _rendered(source, facts, language)
    except TemplateUnfit as unfit:
        log.error("the template {name} cannot be used: {unfit}", name=_name(language), unfit=str(unfit))
    return _rendered(_shipped(language), facts, language) if language in SHIPPED else None


def _name(language: str) -> str:
    return f"notice.{language}.j2"


@cache
def _shipped(language: str) -> str:
    return (_OWN / _name(language)).read_text("utf-8")


def _operators(language: str, folder: Path | None) -> str | None:
    """The operator's template, read anew each time; None where he has none. Raises `TemplateUnfit`."""
    if folder is None or not language.isalpha():
        return None
    try:
        with (folder / _name(language)).open("rb") as file:
            octets = file.read(MAX_OCTETS + 1)
        source = octets.decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as fault:
        raise TemplateUnfit(f"it cannot be read ({fault})") from None
    if len(octets) > MAX_OCTETS:
        raise TemplateUnfit(f"it has more than {MAX_OCTETS} octets")
    return source


@lru_cache(maxsize=32)
def _compiled(body: str) -> Template:
    return _ENVIRONMENT.from_string(body)


def _rendered(source: str, facts: NoticeFacts, language: str) -> _Piece:
    """Raises `TemplateUnfit`."""
    head, _, body = source.replace("\r\n", "\n").partition("\n\n")
    fields = {name: value.strip() for name, _, value in (line.partition(":") for line in head.split("\n"))}
    subject = fields.get("Subject", "")
    if not subject or not subject.isprintable() or set(fields) - {"Subject", "Below"}:
        raise TemplateUnfit("it does not begin with a line Subject: and a blank line")
    try:
        text = _compiled(body).render(
            writers=facts.writers,
            count=facts.count,
            at=facts.at,
            account=facts.settings.account,
            ordinary=facts.settings.ordinary,
            settings=in_words(facts.settings, language),
            incoming=facts.settings.incoming,
            outgoing=facts.settings.outgoing,
            domain=facts.domain,
            postmaster=facts.postmaster,
            unused_days=facts.unused_days,
            joined=facts.joined,
        )
    except Exception as fault:  # whatever a template does
        raise TemplateUnfit(f"{type(fault).__name__}: {fault}") from None
    piece = _Piece(subject, fields.get("Below", ""), _filled(text))
    names = {facts.domain, *(server.host for server in (*facts.settings.incoming, *facts.settings.outgoing))}
    if word := link_in(f"{piece.subject}\n{piece.below}\n{piece.text}", names):
        raise TemplateUnfit(f"it makes a link of {word[:60]!r}, and no notice may hold one")
    if len(piece.text.encode()) > MAX_OCTETS or not piece.text.strip():
        raise TemplateUnfit(f"it makes no text, or more than {MAX_OCTETS} octets")
    return piece


def _filled(text: str) -> str:
    """Paragraphs in lines of at most `WIDTH` columns; indented ones stay as they are."""
    paragraphs: list[list[str]] = [[]]
    for line in text.split("\n"):
        line = "".join(char if char.isprintable() else " " for char in line).rstrip()
        if line:
            paragraphs[-1].append(line)
        elif paragraphs[-1]:
            paragraphs.append([])
    return "\n\n".join(_paragraph(lines) for lines in paragraphs if lines) + "\n"


def _paragraph(lines: list[str]) -> str:
    if lines[0].startswith(" "):
        return "\n".join(lines)
    return textwrap.fill(" ".join(lines), WIDTH, break_long_words=False, break_on_hyphens=False)
