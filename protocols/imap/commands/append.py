"""APPEND of one or many messages (RFC 9051 section 6.3.12, RFC 3502, RFC 3516, RFC 9755 section 4)."""

from certmaild.mailbox.content import MessageWriter
from certmaild.mailbox.errors import OverQuota
from certmaild.mailbox.values import NewMessage
from certmaild.protocols.errors import GrammarError
from certmaild.protocols.imap.command import Command, LiteralStream
from certmaild.protocols.imap.commands.copy import target_folder
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.errors import Bad, No
from certmaild.protocols.imap.grammar.append_arguments import AppendOptions, parse_append_options
from certmaild.protocols.imap.grammar.sequence_sets import format_sequence_set
from certmaild.protocols.imap.grammar.tokens import Cursor
from certmaild.protocols.imap.names import read_name

MAX_MESSAGES = 1000


async def run(context: Context, command: Command) -> None:
    """Take messages in as they come and file them, all or none; octets are kept exactly. Tells APPENDUID."""
    cursor = Cursor(command.arguments)
    name = read_name(context, cursor)
    stream = command.stream
    if stream is None:
        raise GrammarError("APPEND without a literal")
    options = parse_append_options(cursor)
    context.require_writable_login()
    box_id = await target_folder(context, name)
    incoming = _Incoming(context, stream)
    try:
        await incoming.take_all(options)
        result = await context.mailbox.append(box_id, incoming.messages)
    except BaseException:
        incoming.forget()
        raise
    code = b"APPENDUID %d %s" % (result.uid_validity, format_sequence_set(result.uids))
    await context.ok(command, b"Appended.", code)


def _nul_refused(stream: LiteralStream) -> No | Bad:
    """The answer to NUL in a message, which is a fault of the client only outside literal8 (RFC 3516 section 4.4).

    Kept, it could be sent neither in a literal of ``BODY[]`` nor by POP3.
    """
    if stream.binary:
        return No(b"Messages with NUL are not stored; encode the part.", b"UNKNOWN-CTE")
    return Bad(b"NUL is allowed in a binary literal only.", b"CLIENTBUG")


class _Incoming:
    """The messages of one APPEND until they are filed."""

    def __init__(self, context: Context, stream: LiteralStream) -> None:
        self.context = context
        self.stream = stream
        self.messages: list[NewMessage] = []
        self.octets = 0
        self.writers: list[MessageWriter] = []

    async def take_all(self, options: AppendOptions) -> None:
        """Each literal, and the text between them."""
        stream = self.stream
        while True:
            await self._take(options)
            text = await stream.next_text()
            if options.utf8:
                if not text.startswith(b")"):
                    raise GrammarError("UTF8 without its end")
                text = text[1:]
            if not stream.more:
                Cursor((text,)).end()
                return
            if len(self.messages) >= MAX_MESSAGES:
                raise No(b"Too many messages in one command.", b"LIMIT")
            options = parse_append_options(Cursor((text,)))

    async def _take(self, options: AppendOptions) -> None:
        """One literal; size and quota are looked at before it is asked for."""
        stream = self.stream
        if options.utf8 and not stream.binary:
            raise GrammarError("UTF8 is for literal8")
        if options.utf8 and not self.context.utf8:
            raise Bad(b"UTF8 was not enabled.", b"CLIENTBUG")
        if stream.size == 0:
            raise No(b"An empty message is not stored.", b"CANNOT")
        if stream.size > self.context.limits.message_size:
            raise No(b"The message is too large.", b"TOOBIG")
        await self._check_quota(stream.size)
        writer = self.context.mailbox.new_message_writer(self.context.limits.new_scanner())
        self.writers.append(writer)
        while chunk := await stream.read():
            if b"\0" in chunk:
                raise _nul_refused(stream)
            await writer.write(chunk)
        blob, scan = await writer.finish()
        self.messages.append(NewMessage(blob, scan, options.flags, options.internal_date))

    async def _check_quota(self, size: int) -> None:
        quota = await self.context.mailbox.quota()
        self.octets += size
        full = quota.octets_limit is not None and quota.octets + self.octets > quota.octets_limit
        crowded = quota.messages_limit is not None and quota.messages + len(self.messages) + 1 > quota.messages_limit
        if full or crowded:
            raise OverQuota

    def forget(self) -> None:
        """Remove what was staged: nothing of it is filed."""
        for writer in self.writers:
            writer.abort()
