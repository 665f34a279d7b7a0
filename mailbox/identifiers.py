"""The store's names for things: opaque identifiers and the IMAP numbers, each a type of its own."""

from typing import NewType

UserId = NewType("UserId", bytes)
"""16 random bytes, never reused: one user's root key and mailbox."""
BoxId = NewType("BoxId", bytes)
"""16 random bytes: one folder of one user; what the disk shows instead of its name."""
BlobId = NewType("BlobId", bytes)
"""16 random bytes: the frames of one message's content."""
Mid = NewType("Mid", bytes)
"""16 random bytes: one message of one user, for ever (EMAILID, UIDL)."""
CredentialId = NewType("CredentialId", int)
"""20 bits for a device password (its own look-up key), else a small number; unique within a user."""
QueueId = NewType("QueueId", bytes)
"""6 random bytes: one message on its way out; what its 250 and the log show of it, in hexadecimal digits."""
LaneId = NewType("LaneId", bytes)
"""16 bytes: a keyed hash of a destination; what the disk shows instead of its name."""
Uid = NewType("Uid", int)
"""RFC 9051 section 2.3.1.1."""
SeqNum = NewType("SeqNum", int)
"""RFC 9051 section 2.3.1.2."""
ModSeq = NewType("ModSeq", int)
"""RFC 7162 section 3.1."""
