"""STORE and UID STORE (RFC 9051 section 6.4.6, RFC 7162 section 3.1.3)."""

from certmaild.mailbox.values import StoreResult
from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.context import Context
from certmaild.protocols.imap.errors import No
from certmaild.protocols.imap.grammar.sequence_sets import format_sequence_set
from certmaild.protocols.imap.grammar.store_arguments import StoreRequest, parse_store
from certmaild.protocols.imap.grammar.tokens import Cursor
from certmaild.protocols.imap.sets import Chosen, choose, numbers_of
from certmaild.protocols.imap.view import SelectedView
from certmaild.protocols.imap.wire import GONE_TEXT, flag_responses, pick, update_keywords

RESPONSES_AT_ONCE = 512


async def run(context: Context, command: Command) -> None:
    """Change flags; answers with FETCH for every message unless silent, also where nothing changed."""
    cursor = Cursor(command.arguments)
    numbers = cursor.sequence()
    cursor.space()
    request = parse_store(cursor)
    view = context.require_writable()
    chosen = choose(view, numbers, by_uid=command.by_uid)
    if request.unchanged_since is not None:
        context.enable_condstore()
    if not chosen:
        await context.ok(command)
        return
    if request.silent:
        # What others changed until now must be told: the new mod-sequence covers it.
        await context.sync(expunge=False)
    result = await context.mailbox.store_flags(
        view.box_id, chosen.uids, request.op, request.flags, unchanged_since=request.unchanged_since
    )
    update_keywords(context, result.keywords)
    await _tell(context, command, request, result)
    await _finish(context, command, view, chosen, result)


async def _tell(context: Context, command: Command, request: StoreRequest, result: StoreResult) -> None:
    block = result.entries
    modseq_only = request.silent
    if request.silent:
        changed = result.changed
        block = pick(block, [at for at, uid in enumerate(block.uids) if uid in changed])
    responses = flag_responses(context, block, by_uid=command.by_uid, modseq_only=modseq_only)
    for told, response in enumerate(responses, start=1):
        if context.condstore or not modseq_only:
            context.write(response)
        if told % RESPONSES_AT_ONCE == 0:
            await context.flush()


async def _finish(context: Context, command: Command, view: SelectedView, chosen: Chosen, result: StoreResult) -> None:
    code = None
    if result.modified:
        named = result.modified if command.by_uid else numbers_of(view, result.modified)
        code = b"MODIFIED " + format_sequence_set([number for number in named if number])
    gone = chosen.count - len(result.entries) - len(result.modified)
    if gone > 0 and not command.by_uid:
        await context.sync(expunge=False)
        raise No(GONE_TEXT, code or b"EXPUNGEISSUED")
    await context.ok(command, b"Some were changed meanwhile." if code else b"Completed.", code)
