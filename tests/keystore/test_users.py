"""Key rings, cards, arrivals and public keys: they open in their place, under their keys, and not otherwise."""

import os
import pickle
import threading
from collections.abc import Callable
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmaild.keystore import sealing
from certmaild.keystore.errors import KeysClosed, PublicKeySwapped, SealBroken
from certmaild.keystore.secret import Secret
from certmaild.keystore.server_secrets import FILES, ServerSecrets
from certmaild.keystore.users import KeyRing, NewUser, create_user_keys, open_card, seal_arrival, seal_card, unlock

SECRETS = ServerSecrets({name: sha256(name.encode()).digest() for name in FILES})
MID, BOX = b"m" * 16, b"b" * 16


@pytest.fixture
def user() -> NewUser:
    return create_user_keys(SECRETS)


def unlocked(user: NewUser, **changed: bytes) -> KeyRing:
    rows = {"epoch": user.epoch_row, "ident": user.ident_row, "pk": user.public_key_row} | changed
    return unlock(user.user_id, user.root, {1: rows["epoch"]}, {1: rows["ident"]}, rows["pk"])


def every_flip(value: bytes) -> list[bytes]:
    return [value[:at] + bytes([value[at] ^ 0x40]) + value[at + 1 :] for at in range(len(value))]


def test_an_unlocked_ring_opens_what_the_first_sealed(user: NewUser) -> None:
    ring = unlocked(user)
    assert ring.epoch == user.epoch
    assert ring.open_names(0x21, b"", user.keys.seal_names(0x21, b"", b"folders")) == b"folders"
    assert ring.open_entries(0x23, BOX, b"1", user.keys.seal_entries(0x23, BOX, b"1", b"page")) == b"page"
    key = sealing.check_public_key(SECRETS, user.user_id, user.public_key_row)
    parts = sealing.split_arrival(seal_arrival(key, user.user_id, MID, b"card"))
    assert parts.mid == MID
    for _ in range(2):
        assert ring.open_arrival(parts.kid, parts.info(user.user_id), parts.sealed) == b"card"
        ring.rest()
        assert not ring._private


def test_names_open_in_their_place_only(user: NewUser) -> None:
    ring, other = user.keys, create_user_keys(SECRETS).keys
    value = ring.seal_names(0x22, BOX, b"head")
    assert b"head" not in value
    attempts: list[Callable[[], bytes]] = [
        lambda: ring.open_names(0x21, BOX, value),
        lambda: ring.open_names(0x22, b"c" * 16, value),
        lambda: ring.open_names(0x22, b"", value),
        lambda: ring.open_entries(0x22, BOX, b"", value),
        lambda: other.open_names(0x22, BOX, value),
    ]
    for attempt in attempts:
        with pytest.raises(SealBroken):
            attempt()


def test_entries_open_in_their_folder_and_place_only(user: NewUser) -> None:
    ring = user.keys
    value = ring.seal_entries(0x23, BOX, b"1", b"page")
    attempts: list[Callable[[], bytes]] = [
        lambda: ring.open_entries(0x24, BOX, b"1", value),
        lambda: ring.open_entries(0x23, b"c" * 16, b"1", value),
        lambda: ring.open_entries(0x23, BOX, b"2", value),
        lambda: ring.open_entries(0x23, BOX, b"", value),
        lambda: ring.open_names(0x23, BOX, value),
    ]
    for attempt in attempts:
        with pytest.raises(SealBroken):
            attempt()


def test_every_octet_under_the_user_s_keys_counts(user: NewUser) -> None:
    ring = user.keys
    for changed in every_flip(ring.seal_names(0x21, b"p", b"folders")):
        with pytest.raises(SealBroken):
            ring.open_names(0x21, b"p", changed)
    for changed in every_flip(ring.seal_entries(0x23, BOX, b"p", b"page")):
        with pytest.raises(SealBroken):
            ring.open_entries(0x23, BOX, b"p", changed)
    value = ring.seal_names(0x21, b"p", b"folders")
    for size in range(len(value)):
        with pytest.raises(SealBroken):
            ring.open_names(0x21, b"p", value[:size])


def test_every_octet_of_a_card_counts_and_its_place(user: NewUser) -> None:
    mk = os.urandom(32)
    value = seal_card(mk, user.user_id, MID, b"card")
    assert open_card(mk, user.user_id, MID, value) == b"card"
    for changed in [*every_flip(value), value[:-1], value[:20], b""]:
        with pytest.raises(SealBroken):
            open_card(mk, user.user_id, MID, changed)
    for key, owner, mid in ((bytes(32), user.user_id, MID), (mk, bytes(16), MID), (mk, user.user_id, bytes(16))):
        with pytest.raises(SealBroken):
            open_card(key, owner, mid, value)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=300))
def test_any_card_opens(mk: bytes, plaintext: bytes) -> None:
    assert open_card(mk, b"u" * 16, MID, seal_card(mk, b"u" * 16, MID, plaintext)) == plaintext


def test_every_octet_of_an_arrival_counts(user: NewUser) -> None:
    key = sealing.check_public_key(SECRETS, user.user_id, user.public_key_row)
    value = seal_arrival(key, user.user_id, MID, b"card")
    for changed in [*every_flip(value), value[:-1], value[:33], b""]:
        with pytest.raises(SealBroken):
            parts = sealing.split_arrival(changed)
            user.keys.open_arrival(parts.kid, parts.info(user.user_id), parts.sealed)
    parts = sealing.split_arrival(value)
    with pytest.raises(SealBroken):
        user.keys.open_arrival(parts.kid, parts.info(bytes(16)), parts.sealed)


def test_a_planted_public_key_is_not_sealed_to(user: NewUser) -> None:
    for changed in [*every_flip(user.public_key_row), user.public_key_row[:-1]]:
        with pytest.raises(SealBroken):
            sealing.check_public_key(SECRETS, user.user_id, changed)
    other = create_user_keys(SECRETS)
    with pytest.raises(SealBroken):
        sealing.check_public_key(SECRETS, user.user_id, other.public_key_row)


def test_a_swapped_public_key_alarms_at_log_in(user: NewUser) -> None:
    """Also when the server's own MAC is right: whoever holds its secrets cannot make the user's."""
    body, _, _ = sealing.split_public_key(create_user_keys(SECRETS, user.user_id).public_key_row)
    forged = body + bytes(32)
    forged += SECRETS.public_key_mac(user.user_id, forged)
    sealing.check_public_key(SECRETS, user.user_id, forged)
    with pytest.raises(PublicKeySwapped):
        unlocked(user, pk=forged)
    with pytest.raises(PublicKeySwapped):
        unlocked(user, pk=b"")
    for changed in every_flip(user.public_key_row[:-32]):
        with pytest.raises(PublicKeySwapped):
            unlocked(user, pk=changed + user.public_key_row[-32:])


def test_every_octet_of_the_key_rows_counts(user: NewUser) -> None:
    for changed in every_flip(user.epoch_row):
        with pytest.raises(SealBroken):
            unlocked(user, epoch=changed)
    for changed in every_flip(user.ident_row):
        with pytest.raises(SealBroken):
            unlocked(user, ident=changed)
    for rows in ({2: user.epoch_row}, {}):
        with pytest.raises(SealBroken):
            unlock(user.user_id, user.root, rows, {1: user.ident_row}, user.public_key_row)
    with pytest.raises(SealBroken):
        unlock(user.user_id, user.root, {1: user.epoch_row}, {2: user.ident_row}, user.public_key_row)
    other = create_user_keys(SECRETS)
    with pytest.raises(SealBroken):
        unlocked(user, epoch=other.epoch_row)
    with pytest.raises(SealBroken):
        unlocked(user, epoch=user.ident_row)


def test_a_closed_ring_never_yields_octets(user: NewUser) -> None:
    ring = unlocked(user)
    sealed, page = ring.seal_names(0x21, b"", b"x"), ring.seal_entries(0x23, BOX, b"", b"x")
    key = sealing.check_public_key(SECRETS, user.user_id, user.public_key_row)
    parts = sealing.split_arrival(seal_arrival(key, user.user_id, MID, b"card"))
    ring.open_arrival(parts.kid, parts.info(user.user_id), parts.sealed)
    ring.close()
    ring.close()
    assert ring.closed
    uses: list[Callable[[], object]] = [
        lambda: ring.seal_names(0x21, b"", b"x"),
        lambda: ring.open_names(0x21, b"", sealed),
        lambda: ring.seal_entries(0x23, BOX, b"", b"x"),
        lambda: ring.open_entries(0x23, BOX, b"", page),
        lambda: ring.open_arrival(parts.kid, parts.info(user.user_id), parts.sealed),
        ring.__enter__,
    ]
    for use in uses:
        with pytest.raises(KeysClosed):
            use()


def test_a_held_ring_outlives_its_owner_and_takes_no_new_holder(user: NewUser) -> None:
    ring = unlocked(user)
    with ring:
        ring.close()
        assert not ring.closed
        assert ring.open_names(0x21, b"", ring.seal_names(0x21, b"", b"x")) == b"x"
        with pytest.raises(KeysClosed), ring:
            pass
    assert ring.closed
    with pytest.raises(KeysClosed):
        ring.seal_names(0x21, b"", b"x")


def test_closing_under_use_gives_keys_closed_and_nothing_else(user: NewUser) -> None:
    ring = unlocked(user)
    faults: list[BaseException] = []
    begun = threading.Barrier(3)

    def use() -> None:
        begun.wait()
        try:
            for n in range(100_000):
                box = n.to_bytes(16, "big")
                assert user.keys.open_entries(0x23, box, b"", ring.seal_entries(0x23, box, b"", b"x")) == b"x"
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    begun.wait()
    ring.close()
    for thread in threads:
        thread.join()
    assert [type(fault) for fault in faults] == [KeysClosed, KeysClosed]


def test_nothing_shows_in_repr_or_pickle(user: NewUser) -> None:
    root = bytes(user.root.reveal())
    for thing in (user, user.keys, user.root):
        assert root.hex() not in repr(thing)
        assert repr(root) not in repr(thing)
    with pytest.raises(TypeError):
        pickle.dumps(user.root)
    with pytest.raises(TypeError):
        hash(user.root)


def test_a_wiped_secret_raises() -> None:
    secret = Secret(b"octets")
    octets = secret.reveal()
    assert secret == Secret(b"octets")
    assert secret != Secret(b"others")
    assert len(secret) == 6
    secret.wipe()
    secret.wipe()
    assert octets == bytes(6)
    with pytest.raises(KeysClosed):
        secret.reveal()
