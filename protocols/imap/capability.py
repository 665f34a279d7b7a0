"""Which capabilities are announced, by state (RFC 9051 section 7.2.2)."""

from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.states import State

ALWAYS = b"IMAP4rev1 IMAP4rev2 LITERAL+ ID ENABLE"
BEFORE_LOGIN = b"SASL-IR AUTH=PLAIN AUTH=LOGIN"
AFTER_LOGIN = (
    b"NAMESPACE CHILDREN UNSELECT IDLE UIDPLUS MOVE SPECIAL-USE CREATE-SPECIAL-USE LIST-EXTENDED LIST-STATUS "
    b"CONDSTORE ESEARCH SEARCHRES WITHIN STATUS=SIZE UTF8=ACCEPT QUOTA QUOTA=RES-STORAGE QUOTA=RES-MESSAGE BINARY "
    b"MULTIAPPEND INPROGRESS"
)


def capabilities(context: Context) -> bytes:
    """The list for this session as it stands: only what works here and now.

    Before log-in the mechanisms; after it the extensions, APPENDLIMIT, and COMPRESS until it is on. QUOTASET is not
    among them: no session may SETQUOTA.
    """
    if context.session.state is State.NOT_AUTHENTICATED:
        return ALWAYS + b" " + BEFORE_LOGIN
    listed = ALWAYS + b" " + AFTER_LOGIN + b" APPENDLIMIT=%d" % context.limits.message_size
    return listed if context.wire.compressing else listed + b" COMPRESS=DEFLATE"
