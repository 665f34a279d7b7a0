"""A secret in memory: not shown, not pickled, compared in constant time, overwritten when done."""

from hmac import compare_digest
from typing import NoReturn

from certmaild.keystore.errors import KeysClosed


class Secret:
    """Key octets that hide in `repr` and can be overwritten.

    Overwriting is a best effort: Python and the libraries below may hold copies of their own.
    """

    __slots__ = ("_octets",)

    def __init__(self, octets: bytes | bytearray) -> None:
        self._octets = bytearray(octets)

    def reveal(self) -> bytearray:
        """The octets themselves, not a copy. Raises `KeysClosed` after `wipe`."""
        if not self._octets:
            raise KeysClosed("the secret was wiped")
        return self._octets

    def wipe(self) -> None:
        """Overwrite and forget; may be called more than once."""
        octets, self._octets = self._octets, bytearray()
        for at in range(len(octets)):
            octets[at] = 0

    def __len__(self) -> int:
        return len(self._octets)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and compare_digest(self._octets, other._octets)

    __hash__ = None  # type: ignore[assignment]  # a hash would be a copy of sorts, and outlive the secret

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")
