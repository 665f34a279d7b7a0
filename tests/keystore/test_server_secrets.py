"""The server's secrets: made once, read with care, and what they seal."""

from hashlib import sha256
from pathlib import Path

import pytest

from certmaild.keystore.errors import SealBroken, SecretsExposed, SecretsMissing
from certmaild.keystore.server_secrets import FILES, ServerSecrets


@pytest.fixture
def secrets() -> ServerSecrets:
    return ServerSecrets({name: sha256(name.encode()).digest() for name in FILES})


def test_made_once_for_the_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "secrets"
    made = ServerSecrets.create(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert all(path.stat().st_mode & 0o777 == 0o600 and path.stat().st_size == 32 for path in folder.iterdir())
    assert ServerSecrets.load(folder).check_values() == made.check_values()
    assert [path.name for path in folder.parent.iterdir()] == ["secrets"]
    with pytest.raises(FileExistsError):
        ServerSecrets.create(folder)


def test_an_empty_directory_may_stand_there(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    ServerSecrets.create(tmp_path / "secrets")
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", FILES)
def test_a_missing_short_or_exposed_file_is_named(tmp_path: Path, name: str) -> None:
    ServerSecrets.create(tmp_path / "secrets")
    path = tmp_path / "secrets" / name
    path.chmod(0o640)
    with pytest.raises(SecretsExposed, match=name):
        ServerSecrets.load(tmp_path / "secrets")
    path.chmod(0o600)
    path.write_bytes(bytes(31))
    with pytest.raises(SecretsMissing, match=name):
        ServerSecrets.load(tmp_path / "secrets")
    path.unlink()
    with pytest.raises(SecretsMissing, match=name):
        ServerSecrets.load(tmp_path / "secrets")


@pytest.mark.parametrize("name", FILES)
def test_another_secret_than_the_store_s_is_named(tmp_path: Path, name: str) -> None:
    made = ServerSecrets.create(tmp_path / "secrets")
    stored = made.check_values()
    (tmp_path / "secrets" / name).write_bytes(bytes(32))
    changed = ServerSecrets.load(tmp_path / "secrets")
    with pytest.raises(SecretsMissing, match=name):
        changed.verify(stored)
    made.verify(stored)


def test_the_store_knows_a_secret_that_is_gone(secrets: ServerSecrets) -> None:
    with pytest.raises(SecretsMissing, match="pepper-2"):
        secrets.verify(secrets.check_values() | {"pepper-2": bytes(16)})


def test_check_values_are_not_the_secrets(secrets: ServerSecrets) -> None:
    for name, value in secrets.check_values().items():
        assert value not in sha256(name.encode()).digest()


def test_a_newer_pepper_is_used_and_the_older_kept(tmp_path: Path) -> None:
    ServerSecrets.create(tmp_path / "secrets")
    newer = tmp_path / "secrets" / "pepper-2"
    newer.write_bytes(bytes(range(32)))
    newer.chmod(0o600)
    secrets = ServerSecrets.load(tmp_path / "secrets")
    assert secrets.pepper_id == 2
    assert secrets.pepper(2) == bytes(range(32))
    assert secrets.pepper(1) == (tmp_path / "secrets" / "pepper-1").read_bytes()
    with pytest.raises(SecretsMissing, match="pepper-3"):
        secrets.pepper(3)


def test_a_row_opens_in_its_place_only(secrets: ServerSecrets) -> None:
    value = secrets.seal_row("own", b"key", b"plain")
    assert b"plain" not in value
    assert secrets.open_row("own", b"key", value) == b"plain"
    for table, key in (("use", b"key"), ("own", b"kez"), ("own", b""), ("ow", b"nkey")):
        with pytest.raises(SealBroken):
            secrets.open_row(table, key, value)


def test_every_octet_of_a_row_counts(secrets: ServerSecrets) -> None:
    value = secrets.seal_row("acct", b"key", b"plain")
    for at in range(len(value)):
        with pytest.raises(SealBroken):
            secrets.open_row("acct", b"key", value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :])
        with pytest.raises(SealBroken):
            secrets.open_row("acct", b"key", value[:at])


def test_dtag_depends_on_all_it_binds(secrets: ServerSecrets) -> None:
    user, previous, digest = bytes(16), bytes(32), bytes(32)
    tags = {
        secrets.dtag(user, 1, previous, digest),
        secrets.dtag(b"\1" * 16, 1, previous, digest),
        secrets.dtag(user, 2, previous, digest),
        secrets.dtag(user, 1, b"\1" * 32, digest),
        secrets.dtag(user, 1, previous, b"\1" * 32),
    }
    assert len(tags) == 5
    assert all(len(tag) == 32 for tag in tags)


def test_an_unknown_name_has_the_same_salt_each_time(secrets: ServerSecrets) -> None:
    assert secrets.unknown_salt(b"nobody") == secrets.unknown_salt(b"nobody")
    assert secrets.unknown_salt(b"nobody") != secrets.unknown_salt(b"somebody")
    assert len(secrets.unknown_salt(b"nobody")) == 16


def test_nothing_shows_in_repr(secrets: ServerSecrets) -> None:
    assert repr(secrets) == "ServerSecrets(…)"
    assert len(secrets.trace_hash("ann@example.com")) == 16
    assert repr(secrets.queue) == "QueueSeals(…)"


def test_rows_of_the_queue_are_sealed_apart(secrets: ServerSecrets) -> None:
    value = secrets.queue.seal_row("acct", b"key", b"plain")
    assert secrets.queue.open_row("acct", b"key", value) == b"plain"
    with pytest.raises(SealBroken):
        secrets.open_row("acct", b"key", value)
    with pytest.raises(SealBroken):
        secrets.queue.open_row("acct", b"key", secrets.seal_row("acct", b"key", b"plain"))


def test_a_place_is_named_the_same_each_time(secrets: ServerSecrets, tmp_path: Path) -> None:
    other = ServerSecrets.create(tmp_path / "other")
    assert secrets.queue.place_hash(b"example.org") == secrets.queue.place_hash(b"example.org")
    hashes = {one.queue.place_hash(place) for one in (secrets, other) for place in (b"example.org", b"example.net")}
    assert len(hashes) == 4
    assert all(len(one) == 16 for one in hashes)
