"""The clerks of help@ and settings@. What they change they change with the answer, in one transaction."""

import re
from collections.abc import Callable
from dataclasses import replace
from email.message import EmailMessage

import msgspec

from certmaild.client_setup.settings import LANGUAGES
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.account_rows import read_account, write_account
from certmaild.mailbox.changes import Change, ChangeKind
from certmaild.mailbox.guests import read_guest, write_guest
from certmaild.mailbox.identifiers import Mid, UserId
from certmaild.mailbox.interfaces import Engine, ReadTxn, WriteTxn
from certmaild.mailbox.layout_accounts import Account, Option, SentCopies
from certmaild.mailbox.layout_guests import GuestRow
from certmaild.protocols.smtp.errors import Refusal
from certmaild.services import texts
from certmaild.services.commands import folded
from certmaild.services.interfaces import Answer, Request

_SENT = re.compile(
    r"(?:sent copies|sent|gesendete kopien|gesendete)[\s:=]+(client|server|programm?|mailprogramm)", re.ASCII
)
_SEEN = re.compile(
    r"(?:retr marks seen|retr seen|abruf markiert gelesen|abruf gelesen)[\s:=]+(on|off|an|aus|yes|no|ja|nein)",
    re.ASCII,
)
_LANGUAGE = re.compile(r"(?:language|sprache|langue|idioma|lingua)[\s:=]+([a-z]{2})", re.ASCII)
_ON = frozenset({"on", "an", "yes", "ja"})
GONE = Refusal(451, "4.3.0", "Your account changed at this moment, please try again")


class HelpClerk:
    """Answers at help@ whatever is written there."""

    async def answer(self, request: Request) -> EmailMessage | None:
        """See `Clerk.answer`."""
        return texts.help_for(request.domain)


class SettingsClerk:
    """Answers at settings@: says how an account is set, and changes what its owner may change."""

    def __init__(self, engine: Engine, secrets: ServerSecrets) -> None:
        self._engine = engine
        self._secrets = secrets

    async def answer(self, request: Request) -> EmailMessage | Answer | None:
        """See `Clerk.answer`. What is no change is answered with how all is set."""
        user_id = request.login.user_id
        account, guest = await self._engine.read(lambda txn: self._read(txn, user_id))
        if account is None:
            raise GONE
        for line in (folded(line).rstrip(".!") for line in request.lines):
            if found := _SENT.fullmatch(line):
                copies = SentCopies.SERVER if found[1] == "server" else SentCopies.CLIENT
                words = texts.sent_copies_set(by_server=copies is SentCopies.SERVER)
                return self._changed(user_id, words, lambda row: replace(row, sent_copies=copies))  # noqa: B023
            if found := _SEEN.fullmatch(line):
                is_on = found[1] in _ON
                return self._changed(user_id, texts.marks_seen_set(is_on=is_on), _marking_seen(is_on=is_on))
            if found := _LANGUAGE.fullmatch(line):
                return self._language(user_id, guest, found[1])
        language = guest.language if guest is not None else None
        return texts.letter(
            texts.settings_listed(
                request.domain,
                by_server=account.sent_copies is SentCopies.SERVER,
                marks_seen=Option.RETRIEVE_MARKS_SEEN in account.options,
                language=language,
            )
        )

    def _read(self, txn: ReadTxn, user_id: UserId) -> tuple[Account | None, GuestRow | None]:
        """The account, and the row of a guest who has notices sent elsewhere."""
        row = read_guest(txn, self._secrets, user_id)
        return read_account(txn, self._secrets, user_id), row if row is not None and row.ordinary else None

    def _changed(self, user_id: UserId, words: str, change: Callable[[Account], Account]) -> Answer:
        secrets = self._secrets

        def also(txn: WriteTxn, _mid: Mid) -> None:
            row = read_account(txn, secrets, user_id)
            if row is None:
                raise GONE
            write_account(txn, secrets, user_id, change(row))
            txn.announce(Change(ChangeKind.ACCOUNT, user_id))

        return Answer(texts.letter(words), also)

    def _language(self, user_id: UserId, guest: GuestRow | None, language: str) -> EmailMessage | Answer:
        if guest is None:
            return texts.letter(texts.NO_LANGUAGE)
        if language not in LANGUAGES:
            return texts.letter(texts.unknown_language(language, sorted(LANGUAGES)))
        secrets = self._secrets

        def also(txn: WriteTxn, _mid: Mid) -> None:
            row = read_guest(txn, secrets, user_id)
            if row is None:
                raise GONE
            write_guest(txn, secrets, user_id, msgspec.structs.replace(row, language=language))

        return Answer(texts.letter(texts.language_set(language)), also)


def _marking_seen(*, is_on: bool) -> Callable[[Account], Account]:
    def change(row: Account) -> Account:
        rest = row.options & ~Option.RETRIEVE_MARKS_SEEN
        return replace(row, options=rest | Option.RETRIEVE_MARKS_SEEN if is_on else rest)

    return change
