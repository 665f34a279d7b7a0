"""Commands as people write them: a verb in one of five languages, forgiving of case, blanks and politeness. No I/O."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from certmaild.mailbox.ways_in import MAX_LABEL_OCTETS

MOST_LINES = 6
"""That are looked at for a command, the subject among them."""


class Verb(Enum):
    """What may be asked."""

    ADD = "add"
    LIST = "list"
    RENAME = "rename"
    REVOKE = "revoke"
    PROFILE = "profile"
    HELP = "help"


_VERBS = {
    Verb.ADD: "add new create neu neues hinzufügen hinzufuegen anlegen ajouter ajoute nouveau añadir agregar nuevo "
    "aggiungi aggiungere nuovo",
    Verb.LIST: "list show liste zeigen zeige auflisten lister montrer lista listar mostrar elenca elenco mostra",
    Verb.RENAME: "rename umbenennen renommer renombrar rinomina rinominare",
    Verb.REVOKE: "revoke remove delete widerrufen entfernen löschen loeschen sperren révoquer revoquer supprimer "
    "revocar eliminar borrar revoca revocare elimina eliminare",
    Verb.PROFILE: "profile profil perfil profilo",
    Verb.HELP: "help hilfe aide ayuda aiuto",
}
_NOISE = frozenset(
    "please bitte s'il te plaît por favor per favore my a the device devices named called mein meine ein eine das den "
    "gerät geräte geraet geraete namens mon une appareil appareils el mi un dispositivo dispositivos il mio "
    "dispositivi".split()
)
"""Words that say nothing in front of a name, or behind a verb."""
_LAST = frozenset(
    "hinzufügen hinzufuegen anlegen auflisten umbenennen widerrufen entfernen löschen loeschen sperren".split()
)
"""Verbs that German puts at the end."""
_WORDS = {word: verb for verb, words in _VERBS.items() for word in words.split()}
_BETWEEN = re.compile(r"\s+(?:to|in|zu|en|a|as|als|->|=>)\s+", re.IGNORECASE)
_QUOTES = str.maketrans("", "", "\"'“”„«»‘’`")
YES = frozenset("yes ja oui sí si sì".split())
_ENDS = ".,;:!?"


@dataclass(frozen=True, slots=True)
class Command:
    """A verb and what stands behind it, as written, in one piece."""

    verb: Verb
    rest: str = ""


def folded(text: str) -> str:
    """A name or word in the form to compare."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def read_command(line: str) -> Command | None:
    """The command that a line is; None for one that is none."""
    words = [word for word in line.translate(_QUOTES).split() if word.strip(_ENDS)]
    plain = [folded(word.strip(_ENDS)) for word in words]
    start = _past_noise(plain, 0)
    if start < len(words) and plain[start] in _WORDS:
        rest = words[_past_noise(plain, start + 1) :]
        return Command(_WORDS[plain[start]], _joined(rest))
    if words and plain[-1] in _LAST:
        return Command(_WORDS[plain[-1]], _joined(words[start:-1]))
    return None


def first_command(lines: Iterable[str]) -> Command | None:
    """The first of the lines that is a command, of those that are looked at."""
    found = (read_command(line) for _, line in zip(range(MOST_LINES), lines, strict=False))
    return next((one for one in found if one is not None), None)


def _past_noise(plain: list[str], at: int) -> int:
    while at < len(plain) and plain[at] in _NOISE:
        at += 1
    return at


def _joined(words: list[str]) -> str:
    return " ".join(words).strip(_ENDS + " ")


def checked_name(text: str) -> str | None:
    """A device's name on one line, at most 60 characters and `MAX_LABEL_OCTETS`; None when it is none."""
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not 1 <= len(name) <= 60 or any(unicodedata.category(char)[0] == "C" for char in name):
        return None
    return name if len(name.encode()) <= MAX_LABEL_OCTETS else None


def old_and_new(rest: str, known: Iterable[str]) -> tuple[str, str] | None:
    """The two names of ``rename``: parted by "to" or the like, else the first is a known one; None when neither is."""
    parts = _BETWEEN.split(rest, maxsplit=1)
    if len(parts) == 2 and all(parts):
        return parts[0], parts[1]
    words = rest.split()
    names = {folded(one) for one in known}
    for cut in range(len(words) - 1, 0, -1):
        if folded(" ".join(words[:cut])) in names:
            return " ".join(words[:cut]), " ".join(words[cut:])
    return (words[0], words[1]) if len(words) == 2 else None
