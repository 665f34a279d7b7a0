"""Primitives against published answers and against independent composition."""

import ast
import hashlib
import hmac
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from certmaild.keystore import known_answers, primitives
from certmaild.keystore.errors import PrimitiveUnfit, SealBroken
from certmaild.keystore.primitives import Label

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"
keys = st.binary(min_size=32, max_size=32)


def test_self_test_passes() -> None:
    primitives.self_test()


def test_self_test_refuses_a_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(primitives, "mac_sha256", lambda key, octets: bytes(32))
    with pytest.raises(PrimitiveUnfit, match="HMAC-SHA-256"):
        primitives.self_test()


def test_self_test_refuses_a_primitive_that_takes_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(primitives, "open_frame", lambda key, context, sealed: b"a frame of content")
    with pytest.raises(PrimitiveUnfit, match="refusal"):
        primitives.self_test()


def test_self_test_refuses_a_primitive_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[str]:
        raise SealBroken("does not open")

    monkeypatch.setattr(known_answers, "wrong_answers", broken)
    with pytest.raises(PrimitiveUnfit, match="does not open"):
        primitives.self_test()


def test_labels_are_prefix_free_and_hold_no_zero() -> None:
    infos = [label.info for label in Label]
    assert all(b"\0" not in label.value for label in Label)
    assert len(set(infos)) == len(infos)
    assert not any(one.startswith(other) for one in infos for other in infos if one != other)


@given(keys, st.sampled_from(Label), st.lists(st.binary(max_size=40), max_size=3), st.integers(1, 64))
def test_expand_is_hkdf_expand(key: bytes, label: Label, given_fields: list[bytes], length: int) -> None:
    info = b"certmaild/1/" + label.value + b"\0" + b"".join(given_fields)
    assert primitives.expand(key, label, *given_fields, length=length) == HKDFExpand(
        hashes.SHA512(), length, info
    ).derive(key)


@given(keys, st.binary(max_size=64))
def test_extract_then_expand_is_hkdf(salt: bytes, material: bytes) -> None:
    whole = HKDF(hashes.SHA512(), 32, salt, Label.KEK.info).derive(material)
    assert primitives.expand(primitives.extract(salt, material), Label.KEK) == whole


def test_expand_gives_one_block_at_most() -> None:
    for length in (0, 65):
        with pytest.raises(ValueError, match="64"):
            primitives.expand(bytes(32), Label.KEK, length=length)


@given(st.binary(max_size=20), st.binary(max_size=20), st.binary(max_size=20), st.binary(max_size=20))
def test_prefixed_fields_are_told_apart(a: bytes, b: bytes, c: bytes, d: bytes) -> None:
    same = primitives.prefixed(a) + primitives.prefixed(b) == primitives.prefixed(c) + primitives.prefixed(d)
    assert same == ((a, b) == (c, d))


def test_prefixed_refuses_what_16_bits_cannot_count() -> None:
    with pytest.raises(ValueError, match="long"):
        primitives.prefixed(bytes(65536))


@given(keys, st.binary(max_size=200), st.binary(max_size=40))
def test_sealed_opens(key: bytes, plaintext: bytes, context: bytes) -> None:
    nonce = bytes(12)
    sealed = primitives.seal_gcm_siv(key, nonce, plaintext, context)
    assert primitives.open_gcm_siv(key, nonce, sealed, context) == plaintext
    cipher = primitives.aead(key)
    assert primitives.open_with(cipher, b"head" + primitives.seal_with(cipher, plaintext, context), 4, context) == (
        plaintext
    )
    frame = primitives.seal_frame(key, context, plaintext)
    assert len(frame) >= primitives.FRAME_MINIMUM_OCTETS
    assert primitives.open_frame(key, context, frame) == plaintext


@given(keys, st.binary(max_size=100), st.integers(0), st.integers(0, 7))
def test_a_flipped_bit_never_opens(key: bytes, plaintext: bytes, at: int, bit: int) -> None:
    def flipped(value: bytes) -> bytes:
        changed = bytearray(value)
        changed[at % len(value)] ^= 1 << bit
        return bytes(changed)

    with pytest.raises(SealBroken):
        primitives.open_frame(key, b"c", flipped(primitives.seal_frame(key, b"c", plaintext)))
    cipher = primitives.aead(key)
    with pytest.raises(SealBroken):
        primitives.open_with(cipher, flipped(primitives.seal_with(cipher, plaintext, b"c")), 0, b"c")


@pytest.mark.parametrize("size", range(80))
def test_what_is_cut_off_is_refused_as_broken(size: int) -> None:
    with pytest.raises(SealBroken):
        primitives.open_frame(bytes(32), b"", bytes(size))
    with pytest.raises(SealBroken):
        primitives.open_with(primitives.aead(bytes(32)), bytes(size), 0, b"")
    with pytest.raises(SealBroken):
        primitives.open_gcm_siv(bytes(32), bytes(12), bytes(size), b"")
    with pytest.raises(SealBroken):
        primitives.hpke_open(primitives.private_key(bytes(32)), b"", bytes(size))
    with pytest.raises(SealBroken):
        primitives.public_key(bytes(size))


def test_two_seals_of_one_value_differ() -> None:
    cipher = primitives.aead(bytes(32))
    assert len({primitives.seal_with(cipher, b"x", b"") for _ in range(100)}) == 100
    assert len({primitives.seal_frame(bytes(32), b"", b"x") for _ in range(100)}) == 100


# HPKE: RFC 9180's key schedule written out here, over the shared secret that the X-Wing draft publishes.


def _labeled_extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + material, "sha256")


def _labeled_expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labeled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(prk, labeled + b"\1", "sha256")[:length]


def _key_schedule(shared: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Key and nonce in base mode for KEM 0x647a, HKDF-SHA-256, AES-256-GCM (RFC 9180 section 5.1)."""
    suite = b"HPKE" + bytes.fromhex("647a") + bytes.fromhex("0001") + bytes.fromhex("0002")
    context = (
        b"\0" + _labeled_extract(suite, b"", b"psk_id_hash", b"") + _labeled_extract(suite, b"", b"info_hash", info)
    )
    secret = _labeled_extract(suite, shared, b"secret", b"")
    return _labeled_expand(suite, secret, b"key", context, 32), _labeled_expand(
        suite, secret, b"base_nonce", context, 12
    )


def test_hpke_opens_what_the_published_x_wing_vector_seals() -> None:
    vector = json.loads((VECTORS / "xwing.json").read_text())["vector"]
    seed, ciphertext, shared = (bytes.fromhex(vector[name]) for name in ("seed", "ciphertext", "shared_secret"))
    assert hashlib.sha256(primitives.public_octets(seed)).hexdigest() == vector["public_key_sha256"]
    key, nonce = _key_schedule(shared, b"info")
    sealed = ciphertext + AESGCM(key).encrypt(nonce, b"a sealed card", b"")
    assert primitives.hpke_open(primitives.private_key(seed), b"info", sealed) == b"a sealed card"
    with pytest.raises(SealBroken):
        primitives.hpke_open(primitives.private_key(seed), b"other", sealed)


# Cobblestone-256, written out from c2sp.org/chunked-encryption over SHA-512 and AES-256-GCM.

CHUNK = 16384


def _cobblestone_keys(key: bytes, salt: bytes, context: bytes) -> tuple[AESGCM, int, bytes]:
    info = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0" + salt + context
    derived = HKDFExpand(hashes.SHA512(), 32 + 12 + 32, info).derive(key)
    return AESGCM(derived[:32]), int.from_bytes(derived[32:44], "big"), derived[44:]


def _cobblestone_seal(key: bytes, context: bytes, plaintext: bytes) -> bytes:
    salt = bytes(range(24))
    cipher, base, commitment = _cobblestone_keys(key, salt, context)
    sealed = salt + commitment
    for number in range(len(plaintext) // CHUNK + 1):
        chunk = plaintext[number * CHUNK : (number + 1) * CHUNK]
        sealed += cipher.encrypt((base ^ number).to_bytes(12, "big"), chunk, None)
    return sealed


def _cobblestone_open(key: bytes, context: bytes, sealed: bytes) -> bytes:
    cipher, base, commitment = _cobblestone_keys(key, sealed[:24], context)
    assert sealed[24:56] == commitment
    chunks = [sealed[at : at + CHUNK + 16] for at in range(56, len(sealed), CHUNK + 16)]
    return b"".join(cipher.decrypt((base ^ n).to_bytes(12, "big"), chunk, None) for n, chunk in enumerate(chunks))


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 262149])
def test_frames_are_what_the_specification_says(size: int) -> None:
    key, plaintext = bytes(range(32)), bytes(n % 251 for n in range(size))
    assert primitives.open_frame(key, b"context", _cobblestone_seal(key, b"context", plaintext)) == plaintext
    assert _cobblestone_open(key, b"context", primitives.seal_frame(key, b"context", plaintext)) == plaintext


def test_a_frame_cut_at_a_chunk_is_refused() -> None:
    sealed = primitives.seal_frame(bytes(32), b"", bytes(3 * CHUNK))
    for chunks in range(4):
        with pytest.raises(SealBroken):
            primitives.open_frame(bytes(32), b"", sealed[: 56 + chunks * (CHUNK + 16)])


def test_only_one_module_imports_primitives() -> None:
    found = set()
    for folder in ("keystore", "mailbox", "protocols", "certmaild", "twisted"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                if any(name.startswith(("cryptography.hazmat", "cryptography.cobblestone")) for name in names):
                    found.add(path.resolve().relative_to(ROOT))
    assert found == {Path("keystore/primitives.py")}
