"""What the responder needs from the floor above: what lies where."""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Page:
    """One file as it is given out."""

    content_type: str
    octets: bytes = field(repr=False)
    takes_post: bool = False
    """It is given for POST too, whatever the request's content says."""


class Shelf(Protocol):
    """The files."""

    def find(self, host: str, path: str) -> Page | None:
        """The file under ``path`` of ``host`` (lower case); None when there is none."""
        ...
