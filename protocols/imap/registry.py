"""The commands there are: by name, what runs them, in which states, and what may be told before their OK.

To add a command: write ``commands/<name>.py`` with ``async def run(context, command)`` and a line here.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from certmaild.protocols.imap.command import Command
from certmaild.protocols.imap.commands import (
    append,
    authenticate,
    capability,
    close,
    compress,
    copy,
    create,
    delete,
    enable,
    expunge,
    fetch,
    id,
    idle,
    list,
    login,
    logout,
    lsub,
    move,
    namespace,
    noop,
    quota,
    rename,
    search,
    select,
    status,
    store,
    subscribe,
)
from certmaild.protocols.imap.context import Context, Sync
from certmaild.protocols.imap.states import State

ANY = frozenset({State.NOT_AUTHENTICATED, State.AUTHENTICATED, State.SELECTED})
BEFORE_LOGIN = frozenset({State.NOT_AUTHENTICATED})
AFTER_LOGIN = frozenset({State.AUTHENTICATED, State.SELECTED})
SELECTED = frozenset({State.SELECTED})


@dataclass(frozen=True, slots=True)
class Spec:
    """How one command is run."""

    run: Callable[[Context, Command], Awaitable[None]]
    states: frozenset[State]
    sync: Sync = Sync.ALL


COMMANDS: dict[bytes, Spec] = {
    b"CAPABILITY": Spec(capability.run, ANY),
    b"NOOP": Spec(noop.run, ANY),
    b"LOGOUT": Spec(logout.run, ANY, Sync.NONE),
    b"ID": Spec(id.run, ANY),
    b"LOGIN": Spec(login.run, BEFORE_LOGIN),
    b"AUTHENTICATE": Spec(authenticate.run, BEFORE_LOGIN),
    b"ENABLE": Spec(enable.run, AFTER_LOGIN),
    b"NAMESPACE": Spec(namespace.run, AFTER_LOGIN),
    b"COMPRESS": Spec(compress.run, AFTER_LOGIN, Sync.NONE),
    b"IDLE": Spec(idle.run, AFTER_LOGIN),
    b"LIST": Spec(list.run, AFTER_LOGIN),
    b"XLIST": Spec(list.run_xlist, AFTER_LOGIN),
    b"LSUB": Spec(lsub.run, AFTER_LOGIN),
    b"CREATE": Spec(create.run, AFTER_LOGIN),
    b"DELETE": Spec(delete.run, AFTER_LOGIN),
    b"RENAME": Spec(rename.run, AFTER_LOGIN),
    b"SUBSCRIBE": Spec(subscribe.run, AFTER_LOGIN),
    b"UNSUBSCRIBE": Spec(subscribe.run_unsubscribe, AFTER_LOGIN),
    b"STATUS": Spec(status.run, AFTER_LOGIN),
    b"SELECT": Spec(select.run, AFTER_LOGIN, Sync.NONE),
    b"EXAMINE": Spec(select.run_examine, AFTER_LOGIN, Sync.NONE),
    b"GETQUOTA": Spec(quota.run_get, AFTER_LOGIN),
    b"GETQUOTAROOT": Spec(quota.run_root, AFTER_LOGIN),
    b"SETQUOTA": Spec(quota.run_set, AFTER_LOGIN),
    b"CHECK": Spec(noop.run, SELECTED),
    b"CLOSE": Spec(close.run, SELECTED),
    b"UNSELECT": Spec(close.run_unselect, SELECTED),
    b"APPEND": Spec(append.run, AFTER_LOGIN),
    b"FETCH": Spec(fetch.run, SELECTED, Sync.NO_EXPUNGE),
    b"STORE": Spec(store.run, SELECTED, Sync.NO_EXPUNGE),
    b"SEARCH": Spec(search.run, SELECTED, Sync.NO_EXPUNGE),
    b"COPY": Spec(copy.run, SELECTED),
    b"MOVE": Spec(move.run, SELECTED),
    b"EXPUNGE": Spec(expunge.run, SELECTED),
    b"UID FETCH": Spec(fetch.run, SELECTED),
    b"UID STORE": Spec(store.run, SELECTED),
    b"UID SEARCH": Spec(search.run, SELECTED),
    b"UID COPY": Spec(copy.run, SELECTED),
    b"UID MOVE": Spec(move.run, SELECTED),
    b"UID EXPUNGE": Spec(expunge.run_uid, SELECTED),
}
"""By name in capitals, ``UID`` forms with their prefix."""
