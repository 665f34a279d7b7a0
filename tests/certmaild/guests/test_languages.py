"""The language of a notice: his own, the operator's word, the address, all of them."""

import pytest

from certmaild.guests.languages import language_of, languages_for
from certmaild.mailbox.addresses import canonical


@pytest.mark.parametrize(
    ("address", "language"),
    [
        ("a@firma.example.de", "de"),
        ("a@example.at", "de"),
        ("a@example.fr", "fr"),
        ("a@example.com.mx", "es"),
        ("a@example.com.ar", "es"),
        ("a@example.it", "it"),
        ("a@example.co.uk", "en"),
        ("a@example.ch", None),
        ("a@example.be", None),
        ("a@gmail.com", None),
        ("a@[192.0.2.1]", None),
    ],
)
def test_by_the_address(address: str, language: str | None) -> None:
    assert language_of(canonical(address)) == language


def test_the_order() -> None:
    bob, carl = canonical("bob@example.fr"), canonical("carl@example.com")
    by_domain, all_of_them = {"example.com": "it"}, ("en", "de")
    assert languages_for(bob, known="es", by_domain=by_domain, otherwise=all_of_them) == ("es",)
    assert languages_for(bob, known="", by_domain=by_domain, otherwise=all_of_them) == ("fr",)
    assert languages_for(carl, known="", by_domain=by_domain, otherwise=all_of_them) == ("it",)
    assert languages_for(carl, known="", by_domain={}, otherwise=all_of_them) == all_of_them
