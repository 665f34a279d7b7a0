"""What mail programs are told."""

from dataclasses import replace
from pathlib import Path

import pytest

from certmaild.client_setup.settings import LANGUAGES, Security, Speaks, in_words, settings_for
from certmaild.config import default
from certmaild.config_values import Config, Listen


def config(folder: Path, **ports: int | str | None) -> Config:
    return replace(default(folder), hostname="mail.example.com", domains=("example.com",), listen=Listen((), **ports))


def test_all_listeners(tmp_path: Path) -> None:
    settings = settings_for(
        config(tmp_path, imaps=993, pop3s=995, smtp=25, submissions=465, submission=587), "ann@example.com"
    )
    assert [(one.speaks, one.port, one.security) for one in settings.incoming] == [
        (Speaks.IMAP, 993, Security.TLS),
        (Speaks.POP3, 995, Security.TLS),
    ]
    assert [(one.speaks, one.port, one.security) for one in settings.outgoing] == [
        (Speaks.SMTP, 465, Security.TLS),
        (Speaks.SMTP, 587, Security.STARTTLS),
    ]
    assert {one.host for one in (*settings.incoming, *settings.outgoing)} == {"mail.example.com"}
    assert in_words(settings) == (
        "Incoming mail: mail.example.com, IMAP port 993 or POP3 port 995, SSL/TLS\n"
        "Outgoing mail: mail.example.com, SMTP port 465, SSL/TLS\n"
        "User name: ann@example.com"
    )


def test_a_socket_of_systemd_has_the_standard_port_and_what_is_off_is_not_told(tmp_path: Path) -> None:
    settings = settings_for(config(tmp_path, pop3s="systemd:pops", submission=1587), "ann@example.com")
    assert settings.server(Speaks.IMAP) is None
    assert in_words(settings, "de") == (
        "Posteingang: mail.example.com, POP3 Port 995, SSL/TLS\n"
        "Postausgang: mail.example.com, SMTP Port 1587, STARTTLS\n"
        "Benutzername: ann@example.com"
    )
    assert in_words(settings_for(config(tmp_path), "a@example.com")) == "User name: a@example.com"


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_says_all_and_no_uri(tmp_path: Path, language: str) -> None:
    settings = settings_for(config(tmp_path, imaps=993, pop3s=995, submissions=465), "b.x.org@guest.example.com")
    text = in_words(settings, language)
    assert len(text.splitlines()) == 3
    assert all(word in text for word in ("993", "995", "465", "mail.example.com", "b.x.org@guest.example.com"))
    assert "://" not in text and "www." not in text


def test_an_unknown_language_is_english(tmp_path: Path) -> None:
    settings = settings_for(config(tmp_path, imaps=993), "ann@example.com")
    assert in_words(settings, "xx") == in_words(settings)
