"""In which language somebody is written to who has not said which he speaks."""

from certmaild.mailbox.addresses import Address

_BY_TOP_LEVEL = {
    "en": "uk gb us ie au nz gov mil edu london scot wales nyc",
    "de": "de at li berlin hamburg bayern koeln cologne saarland nrw ruhr wien tirol swiss-german",
    "fr": "fr mc re gp mq gf pm yt nc pf wf paris alsace bzh quebec",
    "es": "es mx ar cl pe ve ec gt cu bo do hn sv ni cr pa uy py madrid",
    "it": "it sm va roma sicilia abruzzo",
}
"""Where one language is written to strangers; a country of several, such as Switzerland, names none."""
_LANGUAGES = {name: language for language, names in _BY_TOP_LEVEL.items() for name in names.split()}


def language_of(address: Address) -> str | None:
    """The language that the address's top-level domain stands for (ISO 639-1); None where it stands for none."""
    return _LANGUAGES.get(address.domain.rpartition(".")[2])


def languages_for(
    address: Address, *, known: str, by_domain: dict[str, str], otherwise: tuple[str, ...]
) -> tuple[str, ...]:
    """The languages to write to somebody in, one after the other.

    ``known`` is his own, empty when it is not known; ``by_domain`` gives those that the operator set; then the address
    decides; ``otherwise`` where it says nothing.
    """
    one = known or by_domain.get(address.domain) or language_of(address)
    return (one,) if one else otherwise
