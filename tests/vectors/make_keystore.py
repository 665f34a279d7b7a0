"""Writes keystore.json, once: sealed values of every record type with what must come of them.

Run by hand when a record type is added; an existing file is never overwritten, since it is the promise that values
sealed by former versions open. Usage: ``python tests/vectors/make_keystore.py``.
"""

import json
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from certmaild.keystore import codes, credentials, primitives, sealing, users
from certmaild.keystore.secret import Secret
from certmaild.keystore.server_secrets import FILES, ServerSecrets

HERE = Path(__file__).parent
USER, OTHER = sha256(b"user").digest()[:16], sha256(b"other user").digest()[:16]
BOX, MID, BLOB = (sha256(name).digest()[:16] for name in (b"box", b"mid", b"blob"))
MK, CEK = sha256(b"mk").digest(), sha256(b"cek").digest()
PLAIN = b"what was sealed"


def case(name: str, outcome: str, value: bytes, **given: str | int) -> dict[str, Any]:
    return {"name": name, "outcome": outcome, "value": value.hex(), **given}


def flipped(value: bytes, at: int) -> bytes:
    at %= len(value)
    return value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]


def spoiled(value: bytes, outcome: str = "broken", **given: str | int) -> list[dict[str, Any]]:
    """The failures that every format has in common."""
    return [
        case("last octet changed", outcome, flipped(value, -1), **given),
        case("first octet changed", outcome, flipped(value, 0), **given),
        case("cut off", outcome, value[:-1], **given),
        case("empty", outcome, b"", **given),
    ]


def server_rows(secrets: ServerSecrets) -> list[dict[str, Any]]:
    value = secrets.seal_row("own", b"key", PLAIN)
    given = {"table": "own", "key": b"key".hex()}
    return [
        case("in its place", "opens", value, **given),
        case("in another table", "broken", value, table="use", key=given["key"]),
        case("under another key", "broken", value, table="own", key=b"kez".hex()),
        *spoiled(value, **given),
    ]


def ring_records(ring: users.KeyRing) -> dict[str, list[dict[str, Any]]]:
    names = ring.seal_names(0x21, b"place", PLAIN)
    given: dict[str, Any] = {"record": 0x21, "place": b"place".hex()}
    entries = ring.seal_entries(0x23, BOX, b"place", PLAIN)
    entry: dict[str, Any] = {"record": 0x23, "box": BOX.hex(), "place": b"place".hex()}
    return {
        "names": [
            case("in its place", "opens", names, **given),
            case("as another record", "broken", names, **given | {"record": 0x22}),
            case("in another place", "broken", names, **given | {"place": b"other".hex()}),
            case("of an epoch without a key", "broken", names[:5] + b"\2" + names[6:], **given),
            case("in a slot", "broken", names[:9] + b"\1" + names[10:], **given),
            *spoiled(names, **given),
        ],
        "entries": [
            case("in its place", "opens", entries, **entry),
            case("as another record", "broken", entries, **entry | {"record": 0x24}),
            case("in another folder", "broken", entries, **entry | {"box": MID.hex()}),
            case("in another place", "broken", entries, **entry | {"place": b"other".hex()}),
            *spoiled(entries, **entry),
        ],
    }


def cards() -> list[dict[str, Any]]:
    value = sealing.seal_card(MK, USER, MID, PLAIN)
    given = {"mk": MK.hex(), "user": USER.hex(), "mid": MID.hex()}
    return [
        case("in its place", "opens", value, **given),
        case("of another user", "broken", value, **given | {"user": OTHER.hex()}),
        case("of another message", "broken", value, **given | {"mid": BOX.hex()}),
        case("under another key", "broken", value, **given | {"mk": CEK.hex()}),
        *spoiled(value, **given),
    ]


def arrivals(secrets: ServerSecrets, user: users.NewUser) -> list[dict[str, Any]]:
    key = sealing.check_public_key(secrets, USER, user.public_key_row)
    value = sealing.seal_arrival(key, USER, MID, PLAIN)
    given = {"user": USER.hex()}
    return [
        case("to its recipient", "opens", value, **given),
        case("in another's queue", "broken", value, user=OTHER.hex()),
        case("kid changed", "broken", flipped(value, 10), **given),
        case("mid changed", "broken", flipped(value, 18), **given),
        *spoiled(value, **given),
    ]


def frames() -> list[dict[str, Any]]:
    context = primitives.Label.FRAME.info + bytes([primitives.SUITE]) + BLOB + bytes(4) + b"\1"
    value = primitives.seal_frame(CEK, context, PLAIN)
    given = {"cek": CEK.hex(), "context": context.hex()}
    return [
        case("in its place", "opens", value, **given),
        case("as another frame", "broken", value, **given | {"context": flipped(context, -2).hex()}),
        case("not the last", "broken", value, **given | {"context": flipped(context, -1).hex()}),
        case("under another key", "broken", value, **given | {"cek": MK.hex()}),
        *spoiled(value, **given),
    ]


def wraps(secrets: ServerSecrets, root: Secret) -> list[dict[str, Any]]:
    code = codes.new_device_password(0xABCDE, lambda count: sha256(b"code").digest()[:count])
    ways: list[tuple[str, int, bytes, bytes, int]] = [
        ("device password", 0xABCDE, code.text.lower().replace("-", " ").encode(), b"", 0),
        ("human password", 1 << 20, "pässword".encode(), b"s" * 16, 4),
    ]
    found = []
    for name, credential_id, typed, salt, rounds in ways:
        parsed = codes.parse_device_password(typed)
        octets = parsed.material if parsed else credentials.password_octets(typed)
        kdf = credentials.KDF_NONE if parsed else credentials.KDF_BCRYPT
        proof = credentials.prove(
            credentials.stretch(octets, kdf, salt, rounds), secrets.pepper(1), USER, credential_id
        )
        value = proof.wrap(root, b"fields")
        given: dict[str, Any] = {
            "typed": typed.decode(),
            "kdf": kdf,
            "salt": salt.hex(),
            "rounds": rounds,
            "user": USER.hex(),
            "credential": credential_id,
            "verifier": proof.verifier.hex(),
            "fields": b"fields".hex(),
        }
        found += [
            case(name, "opens", value, **given),
            case(f"{name}, verifier changed", "wrong", value, **given | {"verifier": flipped(proof.verifier, 0).hex()}),
            case(f"{name}, of another user", "wrong", value, **given | {"user": OTHER.hex()}),
            case(f"{name}, a field changed", "broken", value, **given | {"fields": b"fieldz".hex()}),
            *spoiled(value, **given),
        ]
    return found


def unlocking(secrets: ServerSecrets, user: users.NewUser) -> list[dict[str, Any]]:
    stranger = users.create_user_keys(secrets, USER)
    rows = {"epoch": user.epoch_row, "ident": user.ident_row, "public_key": user.public_key_row}

    def variant(name: str, outcome: str, **changed: bytes) -> dict[str, Any]:
        given = {key: value.hex() for key, value in (rows | changed).items()}
        return {"name": name, "outcome": outcome, "user": USER.hex(), "root": bytes(user.root.reveal()).hex(), **given}

    return [
        variant("as made", "opens"),
        variant("another's public key", "swapped", public_key=stranger.public_key_row),
        variant("public key's epoch changed", "swapped", public_key=flipped(user.public_key_row, 5)),
        variant("public key cut off", "swapped", public_key=user.public_key_row[:-1]),
        variant("another's epoch", "broken", epoch=stranger.epoch_row),
        variant("another's identity", "broken", ident=stranger.ident_row),
        variant("epoch changed", "broken", epoch=flipped(user.epoch_row, -1)),
        variant("identity changed", "broken", ident=flipped(user.ident_row, -1)),
        variant("epoch and identity exchanged", "broken", epoch=user.ident_row, ident=user.epoch_row),
        variant(
            "server's MAC changed: seen by the server, not here", "opens", public_key=flipped(user.public_key_row, -1)
        ),
    ]


def main() -> None:
    target = HERE / "keystore.json"
    if target.exists():
        sys.exit(f"{target} exists; it is a promise and is not made anew")
    server = {name: sha256(name.encode()).digest() for name in FILES}
    secrets = ServerSecrets(server)
    user = users.create_user_keys(secrets, USER)
    found = {
        "plaintext": PLAIN.hex(),
        "server_secrets": {name: secret.hex() for name, secret in server.items()},
        "check_values": {name: value.hex() for name, value in secrets.check_values().items()},
        "dtag": secrets.dtag(USER, 7, b"d" * 32, b"e" * 32).hex(),
        "unknown_salt": secrets.unknown_salt(b"nobody").hex(),
        "trace_hash": secrets.trace_hash("ann@example.com"),
        "root": bytes(user.root.reveal()).hex(),
        "unlock": unlocking(secrets, user),
        "server_row": server_rows(secrets),
        **ring_records(user.keys),
        "card": cards(),
        "arrival": arrivals(secrets, user),
        "frame": frames(),
        "wrap": wraps(secrets, user.root),
    }
    target.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
