"""Cards: the immutable facts of one message for one user (KEYS section 5.2), encoded once, read field by field."""

from certmaild.mailbox.mime import Part


class Card:
    """Facts of one message. Fields are decoded when asked for."""

    mid: bytes
    size: int
    """Octets of the blob, without the prefix."""
    internal_date: int
    header_octets: int
    """Octets of the header in the blob, its blank line included."""
    lines: int

    @property
    def envelope(self) -> bytes:
        """ENVELOPE in our canonical form (`certmaild.mailbox.mime_structure`)."""
        raise NotImplementedError

    @property
    def structure(self) -> bytes:
        """Extended BODYSTRUCTURE in our canonical form."""
        raise NotImplementedError

    @property
    def parts(self) -> tuple[Part, ...]:
        """The part table; offsets are relative to the blob: add ``len(card.prefix)``."""
        raise NotImplementedError

    @property
    def prefix(self) -> bytes:
        """The recipient's trace prefix, which stands before the blob."""
        raise NotImplementedError

    @property
    def references(self) -> tuple[bytes, ...]:
        """8-octet hashes of the Message-IDs: own, In-Reply-To, References."""
        raise NotImplementedError
