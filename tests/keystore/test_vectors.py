"""Values sealed by former versions: each comes to the outcome that its vector names."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from certmaild.keystore import codes, credentials, primitives, sealing, users
from certmaild.keystore.errors import PublicKeySwapped, SealBroken
from certmaild.keystore.secret import Secret
from certmaild.keystore.server_secrets import ServerSecrets

Case = dict[str, Any]
VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "keystore.json").read_text("utf-8"))
SECRETS = ServerSecrets({name: bytes.fromhex(secret) for name, secret in VECTORS["server_secrets"].items()})
PLAIN = bytes.fromhex(VECTORS["plaintext"])
octets = bytes.fromhex


def unlocked(case: Case) -> users.KeyRing:
    epoch, ident, public_key = (octets(case[name]) for name in ("epoch", "ident", "public_key"))
    return users.unlock(octets(case["user"]), Secret(octets(case["root"])), {1: epoch}, {1: ident}, public_key)


RING = unlocked(VECTORS["unlock"][0])


def open_unlock(case: Case) -> bytes:
    unlocked(case)
    return PLAIN


def open_server_row(case: Case) -> bytes:
    return SECRETS.open_row(case["table"], octets(case["key"]), octets(case["value"]))


def open_names(case: Case) -> bytes:
    return RING.open_names(case["record"], octets(case["place"]), octets(case["value"]))


def open_entries(case: Case) -> bytes:
    return RING.open_entries(case["record"], octets(case["box"]), octets(case["place"]), octets(case["value"]))


def open_card(case: Case) -> bytes:
    return sealing.open_card(octets(case["mk"]), octets(case["user"]), octets(case["mid"]), octets(case["value"]))


def open_arrival(case: Case) -> bytes:
    parts = sealing.split_arrival(octets(case["value"]))
    return RING.open_arrival(parts.kid, parts.info(octets(case["user"])), parts.sealed)


def open_frame(case: Case) -> bytes:
    return primitives.open_frame(octets(case["cek"]), octets(case["context"]), octets(case["value"]))


class Wrong(Exception):
    """The verifier does not match."""


def open_wrap(case: Case) -> bytes:
    typed = case["typed"].encode()
    code = codes.parse_device_password(typed)
    password = code.material if code else credentials.password_octets(typed)
    material = credentials.stretch(password, case["kdf"], octets(case["salt"]), case["rounds"])
    proof = credentials.prove(material, SECRETS.pepper(1), octets(case["user"]), case["credential"])
    if not proof.matches(octets(case["verifier"])):
        raise Wrong
    root = proof.unwrap(octets(case["value"]), octets(case["fields"]))
    assert root == Secret(octets(VECTORS["root"]))
    return PLAIN


OPENERS: dict[str, Callable[[Case], bytes]] = {
    "unlock": open_unlock,
    "server_row": open_server_row,
    "names": open_names,
    "entries": open_entries,
    "card": open_card,
    "arrival": open_arrival,
    "frame": open_frame,
    "wrap": open_wrap,
}
REFUSALS = {"broken": SealBroken, "swapped": PublicKeySwapped, "wrong": Wrong}


@pytest.mark.parametrize(
    ("record", "case"),
    [pytest.param(record, case, id=f"{record}: {case['name']}") for record in OPENERS for case in VECTORS[record]],
)
def test_outcome(record: str, case: Case) -> None:
    if case["outcome"] == "opens":
        assert OPENERS[record](case) == PLAIN
    else:
        with pytest.raises(REFUSALS[case["outcome"]]):
            OPENERS[record](case)


def test_every_record_has_a_success_and_failures() -> None:
    for record in OPENERS:
        outcomes = [case["outcome"] for case in VECTORS[record]]
        assert "opens" in outcomes
        assert len(set(outcomes)) > 1


def test_public_key_row_is_taken_by_the_server() -> None:
    case = VECTORS["unlock"][0]
    key = sealing.check_public_key(SECRETS, octets(case["user"]), octets(case["public_key"]))
    assert key.epoch == 1


def test_derived_values() -> None:
    user = octets(VECTORS["unlock"][0]["user"])
    assert {name: value.hex() for name, value in SECRETS.check_values().items()} == VECTORS["check_values"]
    assert SECRETS.dtag(user, 7, b"d" * 32, b"e" * 32).hex() == VECTORS["dtag"]
    assert SECRETS.unknown_salt(b"nobody").hex() == VECTORS["unknown_salt"]
    assert SECRETS.trace_hash("ann@example.com") == VECTORS["trace_hash"]
