"""The partners, found by domain: those of the configuration and those made by command, in one place."""

from collections.abc import Iterable, Iterator

from certmaild.partners.record import PartnerRecord


class PartnerBook:
    """All partner records; the same object for as long as a process serves, whatever changes in it.

    A domain's own record goes before one of a domain above it. Of two for the same domain the configuration's counts.
    """

    def __init__(self, configured: Iterable[PartnerRecord] = (), stored: Iterable[PartnerRecord] = ()) -> None:
        self._configured = {record.domain: record for record in configured}
        self._stored = {record.domain: record for record in stored}
        self._by_domain: dict[str, PartnerRecord] = {}
        self._compose()

    def _compose(self) -> None:
        self._by_domain = self._stored | self._configured

    def configure(self, records: Iterable[PartnerRecord]) -> None:
        """Take what the configuration names now."""
        self._configured = {record.domain: record for record in records}
        self._compose()

    def restock(self, records: Iterable[PartnerRecord]) -> None:
        """Take what the store holds now."""
        self._stored = {record.domain: record for record in records}
        self._compose()

    def find(self, domain: str) -> PartnerRecord | None:
        """The record that covers a lower-case A-label domain, whether or not it is in force yet."""
        own = self._by_domain.get(domain)
        if own is not None:
            return own
        rest = domain
        while "." in rest:
            rest = rest.partition(".")[2]
            above = self._by_domain.get(rest)
            if above is not None and above.covers(domain):
                return above
        return None

    def is_configured(self, domain: str) -> bool:
        """Whether the configuration has a record of exactly this domain: no command can change or remove it."""
        return domain in self._configured

    def __iter__(self) -> Iterator[PartnerRecord]:
        return iter(self._by_domain.values())

    def __len__(self) -> int:
        return len(self._by_domain)
