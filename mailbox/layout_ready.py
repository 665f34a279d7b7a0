"""Bytes of the ready rows: one value for each message of a page, end to end, so that one opening serves 256 of them.

Part of `certmaild.mailbox.layout`; docs/storage.md says the same in words.
"""

from array import array
from collections.abc import Sequence
from itertools import accumulate, pairwise
from struct import Struct, error, pack, unpack_from

from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.layout_messages import PAGE_ROWS, U32, page_key

KIND_OCTETS = 8
_PADDED_OCTETS = 4096
_COUNT = Struct(">H")


def ready_key(user_id: bytes, box_id: bytes, first_uid: int, kind: bytes) -> bytes:
    """Key in ``ready``: that of the page, and 8 octets for what kind of value."""
    return page_key(user_id, box_id, first_uid) + kind


def decode_ready_key(key: bytes) -> tuple[int, bytes]:
    """The page's first UID and the kind."""
    return int(U32.unpack_from(key, len(key) - KIND_OCTETS - U32.size)[0]), key[-KIND_OCTETS:]


def ready_place(first_uid: int, kind: bytes) -> bytes:
    """What a row's seal is bound to beside its folder."""
    return U32.pack(first_uid) + kind


def encode_ready(uids: Sequence[int], values: Sequence[bytes]) -> bytes:
    """UIDs, lengths and values of at most 256 messages, filled up to a multiple of 4 KiB."""
    count = len(uids)
    plain = _COUNT.pack(count) + pack(f">{count}I", *uids) + pack(f">{count}I", *map(len, values)) + b"".join(values)
    return plain + bytes(-len(plain) % _PADDED_OCTETS)


def decode_ready(plain: bytes) -> "tuple[array[int], list[bytes]]":
    """UIDs and values. Raises `Damaged`."""
    try:
        (count,) = _COUNT.unpack_from(plain)
        uids = unpack_from(f">{count}I", plain, _COUNT.size)
        lengths = unpack_from(f">{count}I", plain, _COUNT.size + 4 * count)
    except error:
        raise Damaged("ready rows") from None
    ends = list(accumulate(lengths, initial=_COUNT.size + 8 * count))
    if count > PAGE_ROWS or ends[-1] > len(plain):
        raise Damaged("ready rows")
    return array("I", uids), [plain[start:end] for start, end in pairwise(ends)]
