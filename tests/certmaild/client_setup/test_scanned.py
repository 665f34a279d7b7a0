"""The QR code for Thunderbird for Android. `test_thunderbird_wizard.py` holds it against Thunderbird's own."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from certmaild.client_setup.scanned import scanned
from certmaild.client_setup.settings import Speaks, settings_for
from certmaild.config import default
from certmaild.config_values import Config, Listen

ACCOUNT, PASSWORD = "bob.gmail.com@guest.example.com", "7T66-GD1M"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    listen = Listen((), imaps=993, pop3s=995, submission=587)
    return replace(default(tmp_path), hostname="mail.example.com", listen=listen)


def test_an_account(config: Config) -> None:
    text = scanned(settings_for(config, ACCOUNT), PASSWORD, name="Bob Müller")
    assert json.loads(text) == [
        1,
        [1, 1],
        [0, "mail.example.com", 993, 3, 1, ACCOUNT, ACCOUNT, PASSWORD],
        [[[0, "mail.example.com", 587, 2, 1, ACCOUNT, PASSWORD], [ACCOUNT, "Bob Müller"]]],
    ]
    assert len(text) < 800, "what a telephone reads easily"


def test_pop3_and_what_is_off(config: Config) -> None:
    assert json.loads(scanned(settings_for(config, ACCOUNT), PASSWORD, by=Speaks.POP3))[2][0] == 1
    with pytest.raises(ValueError, match="SMTP"):
        scanned(settings_for(replace(config, listen=Listen((), imaps=993)), ACCOUNT), PASSWORD)
