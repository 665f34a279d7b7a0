"""Keys of signatures on mail: what may be one, and that only the right key verifies."""

import base64
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certmaild.keystore.errors import SignatureKeyUnfit
from certmaild.keystore.mail_signatures import KeyKind, MailSigningKey, read_public_key, verify_digest

DER, PEM = serialization.Encoding.DER, serialization.Encoding.PEM
DIGEST = sha256(b"header").digest()


@pytest.mark.parametrize("kind", KeyKind)
def test_what_a_key_signs_it_alone_verifies(kind: KeyKind) -> None:
    key, other = MailSigningKey.make(kind), MailSigningKey.make(kind)
    again = MailSigningKey.read(key.pem)
    signature = again.sign_digest(DIGEST)
    public = read_public_key(kind, key.public_text.encode())
    assert verify_digest(public, signature, DIGEST)
    assert not verify_digest(public, signature, sha256(b"other").digest())
    assert not verify_digest(public, signature[:-1] + bytes([signature[-1] ^ 1]), DIGEST)
    assert not verify_digest(public, b"", DIGEST)
    assert not verify_digest(read_public_key(kind, other.public_text.encode()), signature, DIGEST)


def test_rsa_keys_come_in_two_forms() -> None:
    key = rsa.generate_private_key(65537, 1024).public_key()
    for form in (serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1):
        text = base64.b64encode(key.public_bytes(DER, form))
        assert read_public_key(KeyKind.RSA, text[:20] + b" \t" + text[20:]) == key


def rsa_text(bits: int) -> bytes:
    public = rsa.RSAPublicNumbers(65537, (1 << bits - 1) | 1).public_key()
    return base64.b64encode(public.public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo))


@pytest.mark.parametrize(("bits", "counts"), [(1023, False), (1024, True), (4096, True), (4097, False), (8192, False)])
def test_sizes_at_the_limits_and_past_them(bits: int, counts: bool) -> None:
    if counts:
        read_public_key(KeyKind.RSA, rsa_text(bits))
        return
    with pytest.raises(SignatureKeyUnfit, match=f"{bits} bits"):
        read_public_key(KeyKind.RSA, rsa_text(bits))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (KeyKind.RSA, b"!"),
        (KeyKind.RSA, b"AAAA"),
        (KeyKind.RSA, base64.b64encode(b"\x30" * 4000)),
        (KeyKind.ED25519, base64.b64encode(b"\0" * 31)),
        (KeyKind.RSA, b""),
    ],
)
def test_what_is_no_key(kind: KeyKind, text: bytes) -> None:
    with pytest.raises(SignatureKeyUnfit):
        read_public_key(kind, text)


def test_other_kinds_are_no_keys_for_mail() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with pytest.raises(SignatureKeyUnfit, match="neither RSA nor Ed25519"):
        MailSigningKey.read(pem)
    with pytest.raises(SignatureKeyUnfit, match="no PEM private key"):
        MailSigningKey.read(b"nonsense")
    public = key.public_key().public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(SignatureKeyUnfit, match="not RSA"):
        read_public_key(KeyKind.RSA, base64.b64encode(public))


def test_secrets_are_in_no_repr() -> None:
    assert "Private" not in repr(MailSigningKey.make(KeyKind.ED25519))
