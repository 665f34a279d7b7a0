"""The partners, found by domain."""

from collections.abc import Iterable, Iterator

from certmaild.partners.record import PartnerRecord


class PartnerBook:
    """All partner records. A domain's own record goes before one of a domain above it."""

    def __init__(self, records: Iterable[PartnerRecord] = ()) -> None:
        self._by_domain = {record.domain: record for record in records}

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

    def __iter__(self) -> Iterator[PartnerRecord]:
        return iter(self._by_domain.values())

    def __len__(self) -> int:
        return len(self._by_domain)
