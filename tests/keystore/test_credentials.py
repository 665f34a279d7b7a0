"""Ways in: stretching, splitting, wrapping; and codes that people type."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmaild.keystore import codes, credentials
from certmaild.keystore.codes import ALPHABET
from certmaild.keystore.errors import SealBroken
from certmaild.keystore.secret import Secret

USER, PEPPER = b"u" * 16, b"p" * 32
letters = st.sampled_from(ALPHABET)


def test_a_wrap_opens_for_the_same_secret_and_fields_only() -> None:
    material = credentials.stretch(b"secret", credentials.KDF_NONE, b"", 0)
    proof = credentials.prove(material, PEPPER, USER, 7)
    root = Secret(b"r" * 32)
    wrapped = proof.wrap(root, b"fields")
    assert len(wrapped) == credentials.WRAP_OCTETS
    assert proof.matches(proof.verifier)
    assert proof.unwrap(wrapped, b"fields") == root
    for at in range(len(wrapped)):
        with pytest.raises(SealBroken):
            proof.unwrap(wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :], b"fields")
    with pytest.raises(SealBroken):
        proof.unwrap(wrapped, b"other fields")


def test_verifier_and_key_depend_on_all_they_are_made_of() -> None:
    proofs = [
        credentials.prove(b"s", PEPPER, USER, 7),
        credentials.prove(b"t", PEPPER, USER, 7),
        credentials.prove(b"s", b"q" * 32, USER, 7),
        credentials.prove(b"s", PEPPER, b"v" * 16, 7),
        credentials.prove(b"s", PEPPER, USER, 8),
    ]
    assert len({proof.verifier for proof in proofs} | {proof.kek for proof in proofs}) == 10
    assert not proofs[0].matches(proofs[1].verifier)
    assert proofs[0].kek.hex() not in repr(proofs[0])


def test_without_the_pepper_there_is_nothing_to_compare() -> None:
    assert not credentials.prove(b"s", bytes(32), USER, 7).matches(credentials.prove(b"s", PEPPER, USER, 7).verifier)


def test_an_empty_password_takes_the_same_way_and_matches_nothing() -> None:
    for kdf in (credentials.KDF_NONE, credentials.KDF_BCRYPT):
        one, other = (credentials.stretch(b"", kdf, b"s" * 16, 1) for _ in range(2))
        assert one != other


def test_a_kdf_that_is_not_built_is_refused() -> None:
    with pytest.raises(ValueError, match="kdf 2"):
        credentials.stretch(b"x", credentials.KDF_ARGON2ID, b"s" * 16, 1)


def test_passwords_of_any_length_count_whole() -> None:
    one, other = (credentials.stretch(b"x" * 200 + end, credentials.KDF_BCRYPT, b"s" * 16, 1) for end in (b"a", b"b"))
    assert one != other


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("plain ascii", "plain ascii"),
        ("Cafe\u0301", "Café"),
        ("Caf\u00e9", "Café"),
        ("a\u00a0b\u3000ü", "a b ü"),
        ("Ü", "Ü"),
    ],
)
def test_opaque_string_form(typed: str, meant: str) -> None:
    assert credentials.password_octets(typed.encode()) == unicodedata.normalize("NFC", meant).encode()


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"caf\xe9", "a\u0007\u0301é".encode(), b"", "\ue000".encode()])
def test_what_is_no_opaque_string_stays_as_it_is(raw: bytes) -> None:
    assert credentials.password_octets(raw) == raw


def test_calibration_stays_between_floor_and_ceiling() -> None:
    def clock(step: float) -> "list[float]":
        return [n * step for n in range(6)]

    for step, rounds in ((1e-9, 512), (10.0, 64), (0.032, 125)):
        ticks = iter(clock(step))
        assert credentials.calibrate(clock=lambda ticks=ticks: next(ticks)) == rounds  # type: ignore[misc]


# Codes.


@given(st.integers(0, (1 << 20) - 1), st.binary(min_size=27, max_size=27))
def test_a_device_password_is_read_back(credential_id: int, octets: bytes) -> None:
    code = codes.new_device_password(credential_id, lambda count: octets[:count])
    assert code.text.count("-") == 7
    assert all(len(group) == 4 for group in code.text.split("-"))
    assert codes.parse_device_password(code.text.encode()) == code


def test_entropy() -> None:
    made = {codes.new_device_password(5).letters for _ in range(50)}
    assert len(made) == 50
    assert all(len(one) == 31 and set(one) <= set(ALPHABET) for one in made)
    assert len(codes.new_pickup_code().letters) * 5 == 80


@pytest.mark.parametrize("credential_id", [-1, 1 << 20])
def test_ids_have_20_bits(credential_id: int) -> None:
    with pytest.raises(ValueError, match="20 bits"):
        codes.new_device_password(credential_id)


def test_typing_is_forgiven() -> None:
    code = codes.new_device_password(0b00001_00000_10011_00001, lambda count: bytes(range(count)))
    text = code.text
    variants = [
        text.lower(),
        text.replace("-", " "),
        text.replace("-", ""),
        f"  {text}\r\n",
        text.replace("-", "\u2013"),
        text.replace("-", "\u00a0"),
        text.replace("0", "O"),
        text.replace("0", "o").replace("1", "l"),
        text.replace("1", "I"),
        " ".join(text),
    ]
    for typed in variants:
        assert codes.parse_device_password(typed.encode()) == code, typed


@pytest.mark.parametrize(
    "raw", [b"", b"hunter2", b"\xff" * 32, b"U" * 32, b"0" * 31, b"0" * 33, b"-" * 500, "ß".encode() * 32]
)
def test_other_passwords_are_no_codes(raw: bytes) -> None:
    assert codes.parse_device_password(raw) is None
    assert codes.parse_pickup_code(raw) is None


def test_pickup_code_form() -> None:
    code = codes.new_pickup_code()
    assert [len(group) for group in code.text.split("-")] == [4, 4, 4, 4, 1]
    assert codes.parse_pickup_code(code.text.lower().encode()) == code
    assert codes.parse_device_password(code.text.encode()) is None


@given(st.integers(0, (1 << 20) - 1), st.integers(0, 31), letters)
def test_a_wrong_letter_is_caught(credential_id: int, at: int, letter: str) -> None:
    text = codes.new_device_password(credential_id).text.replace("-", "")
    changed = text[:at] + letter + text[at + 1 :]
    assert (codes.parse_device_password(changed.encode()) is not None) == (changed == text)


@given(st.integers(0, (1 << 20) - 1), st.integers(0, 30))
def test_two_letters_that_changed_places_are_caught(credential_id: int, at: int) -> None:
    text = codes.new_device_password(credential_id).text.replace("-", "")
    changed = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    assert (codes.parse_device_password(changed.encode()) is not None) == (changed == text)


def test_check_letter_weighs_each_place_differently_from_its_neighbours() -> None:
    """Exhaustive: any single letter, any pair of neighbours, in a code of zeros otherwise."""
    for at in range(31):
        seen = {codes.check_letter("0" * at + letter + "0" * (30 - at)) for letter in ALPHABET}
        assert len(seen) == 32
    for at in range(30):
        for first in ALPHABET:
            for second in ALPHABET:
                one = "0" * at + first + second + "0" * (29 - at)
                other = "0" * at + second + first + "0" * (29 - at)
                assert (codes.check_letter(one) == codes.check_letter(other)) == (first == second)


def test_code_hides_in_repr() -> None:
    code = codes.new_device_password(77)
    assert code.letters not in repr(code)
    assert code.letters.encode() == code.material


def test_a_device_password_costs_little() -> None:
    code = codes.new_device_password(1)
    begun = time.perf_counter()
    for _ in range(100):
        credentials.prove(credentials.stretch(code.material, credentials.KDF_NONE, b"", 0), PEPPER, USER, 1)
    assert time.perf_counter() - begun < 1
