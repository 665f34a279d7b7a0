"""Known answers for the accounts' half of the store: what was once written is read for ever.

``tests/vectors/accounts.json`` is never regenerated silently: ``python tests/mailbox/test_account_vectors.py`` makes a
missing file only. A case of an older version has no encoder any more, only its octets and what they mean.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from certmaild.mailbox import layout_accounts as layout
from certmaild.mailbox.errors import Damaged
from certmaild.mailbox.identifiers import CredentialId, UserId
from certmaild.mailbox.layout_accounts import (
    Account,
    CredentialHead,
    CredentialRow,
    Kind,
    Option,
    Role,
    Scope,
    SentCopies,
    State,
)

FILE = Path(__file__).parents[1] / "vectors" / "accounts.json"
USER = UserId(b"user id, 16 byte")
ACCOUNT = Account(
    State.DISABLED,
    Role.GUEST,
    SentCopies.SERVER,
    5_000_000_000,
    None,
    1_750_000_009,
    1_750_000_000,
    "j\u00e4ger@example.com",
    "J\u00e4ger@Example.com",
    Option.RETRIEVE_MARKS_SEEN,
)
CREDENTIAL = CredentialRow(
    CredentialHead(
        Kind.PASSWORD,
        1,
        2,
        96,
        bytes(range(16)),
        bytes(range(32)),
        layout.MAIL_SCOPES | Scope.MANAGE,
        1_750_000_000,
        1_760_000_000,
        b"192.0.2.0/24",
    ),
    bytes(range(60)),
    b"sealed label",
)
VERSION_1 = "account, version 1"
"""Before an account had options."""


def rows() -> dict[str, bytes]:
    """Rows and keys by name: as encoded today."""
    credential_id = CredentialId(258)
    return {
        "address of an account": layout.encode_owner(USER),
        "address that is an alias": layout.encode_alias("j\u00e4ger@example.com"),
        "account, version 2": layout.encode_account(ACCOUNT),
        "account without options or limits": layout.encode_account(
            replace(ACCOUNT, octets_limit=None, options=layout.NO_OPTIONS)
        ),
        "credential key": layout.credential_key(USER, credential_id),
        "credential place": layout.credential_place(credential_id),
        "credential aad": layout.credential_aad(CREDENTIAL.head, USER, credential_id),
        "credential": layout.encode_credential(CREDENTIAL),
        "day of use": layout.encode_day(20_254),
        "epoch key": layout.numbered_key(USER, 3),
    }


def known() -> dict[str, str]:
    cases: dict[str, str] = json.loads(FILE.read_text())["rows"]
    return cases


@pytest.mark.parametrize("name", sorted(rows()))
def test_rows_are_written_as_ever(name: str) -> None:
    assert rows()[name].hex() == known()[name]


def test_every_row_has_its_case() -> None:
    assert set(known()) == {*rows(), VERSION_1}


def test_rows_are_read_as_ever() -> None:
    cases = {name: bytes.fromhex(value) for name, value in known().items()}
    assert layout.decode_address(cases["address of an account"]) == USER
    assert layout.decode_address(cases["address that is an alias"]) == ACCOUNT.address
    assert layout.decode_account(cases["account, version 2"]) == ACCOUNT
    assert layout.decode_credential(cases["credential"]) == CREDENTIAL
    assert layout.decode_credential_key(cases["credential key"]) == (USER, CredentialId(258))
    assert layout.decode_day(cases["day of use"]) == 20_254


def test_an_account_of_version_1_is_read_and_written_as_version_2() -> None:
    old = layout.decode_account(bytes.fromhex(known()[VERSION_1]))
    assert old == replace(ACCOUNT, options=layout.NO_OPTIONS)
    assert layout.decode_account(layout.encode_account(replace(old, options=ACCOUNT.options))) == ACCOUNT


def test_accounts_that_are_none() -> None:
    row = layout.encode_account(ACCOUNT)
    options = 32
    assert row[options] == Option.RETRIEVE_MARKS_SEEN
    for wrong in (
        b"",
        row[:options],
        row[:-1],
        row + b"\0",
        b"\0" + row[1:],
        b"\1" + row[1:],
        b"\3" + row[1:],
        row[:options] + b"\x04" + row[options + 1 :],
        row[:1] + b"\x09" + row[2:],
    ):
        with pytest.raises(Damaged):
            layout.decode_account(wrong)


def version_1() -> bytes:
    """The row as it was before options: without their octet."""
    row = layout.encode_account(ACCOUNT)
    return b"\1" + row[1:32] + row[33:]


if __name__ == "__main__":
    if FILE.exists():
        raise SystemExit(f"{FILE} is there already; vectors are never regenerated")
    made = {**rows(), VERSION_1: version_1()}
    FILE.write_text(json.dumps({"rows": {name: value.hex() for name, value in made.items()}}, indent=2) + "\n")
