"""What each command works with: the session's login, mailbox, selected folder, and where answers go."""

from contextlib import suppress
from enum import Enum

from certmaild.mailbox.errors import FolderMissing, MailboxError
from certmaild.mailbox.identifiers import CredentialId
from certmaild.mailbox.opened import OpenMailbox
from certmaild.mailbox.values import EntryBlock, FolderUpdate
from certmaild.protocols.errors import StateError
from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.errors import Bye, No
from certmaild.protocols.imap.flags import format_flags, format_known_flags
from certmaild.protocols.imap.interfaces import Wire
from certmaild.protocols.imap.session import Session
from certmaild.protocols.imap.view import SelectedView
from certmaild.protocols.interfaces import ClientId, Login
from certmaild.protocols.limits import Limits

IMAP4REV2 = b"IMAP4REV2"
CONDSTORE = b"CONDSTORE"
UTF8_ACCEPT = b"UTF8=ACCEPT"

ARRIVALS_S = 0.5
"""How long SELECT, STATUS and NOOP wait for sealed arrivals to become messages; the rest comes as EXISTS."""


class Sync(Enum):
    """What a session may be told of the selected folder before a command's tagged OK."""

    NONE = "nothing"
    NO_EXPUNGE = "all but EXPUNGE: FETCH, STORE and SEARCH by sequence number (RFC 9051 section 7.5.1)"
    ALL = "everything"


class Context:
    """One session as its commands see it.

    A command writes its untagged responses with `untagged` or `write`, awaits `flush` between large ones, and ends
    with ``await context.ok(command, ...)``, which first tells what else changed in the selected folder. To refuse it
    raises `No`, `Bad`, `Bye`, or lets an error of the mailbox or the grammar through.
    """

    __slots__ = ("_mailbox", "client_id", "enabled", "limits", "login", "selected", "session", "sync_mode", "wire")

    def __init__(self, wire: Wire, session: Session, limits: Limits) -> None:
        self.wire = wire
        self.session = session
        self.limits = limits
        self.login: Login | None = None
        self._mailbox: OpenMailbox | None = None
        self.selected: SelectedView | None = None
        self.enabled: set[bytes] = set()
        """Extensions enabled, in capitals (RFC 5161)."""
        self.client_id: ClientId = ()
        """What the client said of itself (RFC 2971)."""
        self.sync_mode = Sync.NONE
        """Of the command that runs; set from the registry."""

    # What the session has

    @property
    def mailbox(self) -> OpenMailbox:
        """The user's mailbox. Raises `StateError` before log-in."""
        if self._mailbox is None:
            raise StateError("not logged in")
        return self._mailbox

    @property
    def credential_id(self) -> CredentialId | None:
        """With what the user logged in."""
        return None if self.login is None else self.login.credential_id

    @property
    def view(self) -> SelectedView:
        """The selected folder. Raises `StateError` without one."""
        if self.selected is None:
            raise StateError("no folder is selected")
        return self.selected

    @property
    def rev2(self) -> bool:
        """Whether the client enabled IMAP4rev2."""
        return IMAP4REV2 in self.enabled

    @property
    def utf8(self) -> bool:
        """Whether UTF-8 may go out in quoted strings and folder names (RFC 9755, or rev2)."""
        return UTF8_ACCEPT in self.enabled or IMAP4REV2 in self.enabled

    @property
    def condstore(self) -> bool:
        """Whether FETCH responses carry MODSEQ (RFC 7162 section 3.1)."""
        return CONDSTORE in self.enabled

    def require_writable_login(self) -> None:
        """Raises `No` when the credential may only read."""
        if self.login is not None and self.login.read_only:
            raise No(b"This password may only read.", b"NOPERM")

    def require_writable(self) -> SelectedView:
        """The selected folder, if messages in it may be changed. Raises `No` after EXAMINE."""
        self.require_writable_login()
        if self.view.read_only:
            raise No(b"The mailbox is selected read-only.", b"READ-ONLY")
        return self.view

    def logged_in(self, login: Login, mailbox: OpenMailbox) -> None:
        """The session belongs to this user from now on."""
        self.login, self._mailbox = login, mailbox

    def enable_condstore(self) -> None:
        """Any use of CONDSTORE enables it, and tells HIGHESTMODSEQ once (RFC 7162 section 3.1)."""
        if CONDSTORE not in self.enabled:
            self.enabled.add(CONDSTORE)
            if self.selected is not None:
                self.untagged(b"OK [HIGHESTMODSEQ %d] Highest" % self.selected.modseq)

    def end(self) -> None:
        """The session's end: lets the mailbox go, and the connection.

        An ended session holds no circle of references: its memory is free at once, not when the collector comes by.
        """
        del self.wire
        self.selected = None
        mailbox, self._mailbox = self._mailbox, None
        if mailbox is not None:
            mailbox.close()

    # Answers

    def write(self, data: bytes) -> None:
        """Send octets as they stand."""
        self.wire.write(data)

    def untagged(self, line: bytes) -> None:
        """Send ``* line``; the CRLF is added."""
        self.wire.write(b"* " + line + b"\r\n")

    def separate(self) -> None:
        """Called between the data of two messages, so that COMPRESS never mixes them (KEYS section 8: no oracle)."""
        self.wire.separate()

    async def flush(self) -> None:
        """Back-pressure: wait until more may be written. Raises `ConnectionGone`."""
        await self.wire.flush()

    async def ok(self, command: Command, text: bytes = b"Completed.", code: bytes | None = None) -> None:
        """Tell what changed in the selected folder as far as the command allows, then answer tagged OK."""
        if self.selected is not None and self.sync_mode is not Sync.NONE:
            await self.sync(expunge=self.sync_mode is Sync.ALL)
        listed = b"[" + code + b"] " if code else b""
        self.wire.write(command.tag + b" OK " + listed + text + b"\r\n")

    # The selected folder

    async def take_arrivals(self) -> None:
        """Let mail whose 250 was sent be seen by the command that follows, waiting `ARRIVALS_S` at most.

        What is wrong with the queue has raised its alarm in the store already; it keeps nobody from his other mail.
        """
        with suppress(MailboxError):
            await self.mailbox.absorb(at_most_s=ARRIVALS_S)

    async def sync(self, *, expunge: bool) -> None:
        """Tell EXPUNGE (if allowed), EXISTS, RECENT, FLAGS and FETCH for what changed since the last time."""
        view = self.view
        try:
            update = await self.mailbox.updates(
                view.box_id, view.modseq, view.uid_next, claim_recent=not view.read_only and not self.rev2
            )
        except FolderMissing:
            raise Bye(b"The selected mailbox was deleted.") from None
        if self.selected is not view:
            return
        changed: list[tuple[int, int, int, int]] = []
        grown = False
        if update is not None:
            changed = self._news_of(update)
            grown = view.take(update)
        if expunge and view.has_expunged:
            numbers, _ = view.release_expunged()
            self.write(b"".join(b"* %d EXPUNGE\r\n" % number for number in numbers))
        if grown:
            self.untagged(b"%d EXISTS" % len(view))
            if not self.rev2:
                self.untagged(b"%d RECENT" % view.recent_count)
        if update is not None and update.keywords != view.keywords:
            view.keywords = update.keywords
            self.tell_flags()
        for done, (uid, flags, keywords, modseq) in enumerate(changed, start=1):
            self.tell_message_flags(uid, flags, keywords, modseq)
            if done % 256 == 0:
                await self.flush()

    def _news_of(self, update: FolderUpdate) -> list[tuple[int, int, int, int]]:
        """Changed messages that the client has, less what it was already told (uid, flags, keywords, modseq)."""
        view = self.view
        block: EntryBlock = update.changed
        rows = zip(block.uids, block.flags, block.keywords, block.modseqs, strict=True)
        return [row for row in rows if not view.knows(row[0], row[3])]

    def tell_flags(self) -> None:
        """Untagged FLAGS and PERMANENTFLAGS: on SELECT, and when a keyword came up."""
        view = self.view
        self.untagged(b"FLAGS " + format_known_flags(view.keywords))
        allowed = b"()"
        if not view.read_only:
            allowed = format_known_flags(view.keywords, any_more=True)
        self.untagged(b"OK [PERMANENTFLAGS " + allowed + b"] Flags that last")

    def tell_message_flags(self, uid: int, flags: int, keywords: int, modseq: int) -> None:
        """Untagged FETCH with UID, FLAGS and, where CONDSTORE is enabled, MODSEQ; nothing if the client lacks it."""
        view = self.view
        number = view.number(uid)
        if number is None:
            return
        recent = not self.rev2 and view.is_recent(uid)
        listed = format_flags(flags, keywords, view.keywords, recent=recent)
        if self.condstore:
            self.untagged(b"%d FETCH (UID %d FLAGS %s MODSEQ (%d))" % (number, uid, listed, modseq))
        else:
            self.untagged(b"%d FETCH (UID %d FLAGS %s)" % (number, uid, listed))
