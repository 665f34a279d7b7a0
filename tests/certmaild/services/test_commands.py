"""Commands as people write them, in the languages that are known."""

import pytest

from certmaild.services.commands import Command, Verb, checked_name, first_command, old_and_new, read_command


@pytest.mark.parametrize(
    ("line", "verb", "rest"),
    [
        ("add phone", Verb.ADD, "phone"),
        ("  ADD   my  Phone. ", Verb.ADD, "Phone"),
        ("Please add a device named “Old phone”", Verb.ADD, "Old phone"),
        ("Gerät hinzufügen Uhr", Verb.ADD, "Uhr"),
        ("Gerät Uhr hinzufügen", Verb.ADD, "Uhr"),
        ("neues Gerät: Uhr", Verb.ADD, "Uhr"),
        ("ajouter un appareil tablette", Verb.ADD, "tablette"),
        ("añadir dispositivo móvil", Verb.ADD, "móvil"),
        ("aggiungi telefono", Verb.ADD, "telefono"),
        ("list", Verb.LIST, ""),
        ("Liste!", Verb.LIST, ""),
        ("rename phone to tablet", Verb.RENAME, "phone to tablet"),
        ("revoke 'old phone' yes", Verb.REVOKE, "old phone yes"),
        ("widerrufen Uhr", Verb.REVOKE, "Uhr"),
        ("Uhr löschen", Verb.REVOKE, "Uhr"),
        ("revoke password", Verb.REVOKE, "password"),
        ("profile", Verb.PROFILE, ""),
        ("Hilfe", Verb.HELP, ""),
    ],
)
def test_commands(line: str, verb: Verb, rest: str) -> None:
    assert read_command(line) == Command(verb, rest)


@pytest.mark.parametrize("line", ["", "hello", "...", "I would like to add phone", "phone", "?"])
def test_what_is_no_command(line: str) -> None:
    assert read_command(line) is None


def test_the_first_lines_are_looked_at_and_no_more() -> None:
    assert first_command(["hello", "add phone", "list"]) == Command(Verb.ADD, "phone")
    assert first_command(["hello"] * 6 + ["list"]) is None


def test_names_of_devices() -> None:
    assert checked_name("  my   phone ") == "my phone"
    assert checked_name("e\u0301") == "é"
    assert checked_name("x" * 60) == "x" * 60
    for bad in ("", "x" * 61, "a\x00b", "a\u202eb"):
        assert checked_name(bad) is None


def test_old_and_new_names() -> None:
    known = ["Old phone", "phone"]
    assert old_and_new("phone to tablet", known) == ("phone", "tablet")
    assert old_and_new("Old phone in Neues Telefon", known) == ("Old phone", "Neues Telefon")
    assert old_and_new("old PHONE new one", known) == ("old PHONE", "new one")
    assert old_and_new("a b", known) == ("a", "b")
    assert old_and_new("a", known) is None
    assert old_and_new("a b c", known) is None


def test_a_name_fits_where_it_is_kept() -> None:
    assert checked_name("\N{GRINNING FACE}" * 50) is not None
    assert checked_name("\N{GRINNING FACE}" * 51) is None
