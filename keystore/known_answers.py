"""Known answers of every primitive, for the start-up self-test."""

import hashlib
from collections.abc import Callable
from hmac import compare_digest

from certmaild.keystore import primitives
from certmaild.keystore.errors import SealBroken

_INFO = b"certmaild/1/self-test"
_SEED = bytes.fromhex("7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26")
"""Of the first vector of draft-connolly-cfrg-xwing-kem, appendix C; the next is the SHA-256 of its public key."""
_PUBLIC_SHA256 = "2e816deebcd76c5c80d0cd2d174478871658e8e2ff42bc9d4a6e486372e856bb"
_FRAME = bytes.fromhex(
    "13b889e5f322892132ec0662331bc58ca077b9b358a1c9da9bcd94e4bb5b528b377a7de017aad5c77059efbfda9a250614a3"
    "1581234469114815791611002c1b36932bf93fbf5d9753a7bd12183e930bb28a21d29c35f1ab0b3b"
)
_HPKE = bytes.fromhex(
    "e78ef00d75a6f16b4c29811624f9f723fe36b323922568bbde665919c81a1e20cddc273037afe8f42467c15c92a3f6e6824b"
    "48d6342a61cc635017cf80143f2801c86f4d1bb8a1cb46a0bfe4e501709a8114b6348f5790a24af2e3ab3c02f2fd79aafa08"
    "8bfa4ac107c7918b484c7e3e6a094c6fa4aa99e826ff68a87e155378317da3a9eb54244c5e315841c2653f134416db9136cb"
    "e4f1180da76ab0fe95a576f945133889a90da3b705841962095b327296bbd07b0ed321d171268036eee3e216dc964313cac4"
    "10a0bfbc89e1045211683bd0154554c2eb6d9f6b8f31beeab553ff1bf4957be9a0d52a23f369e15a36bd977c65045731c901"
    "ebbf6eb56b40ed9b48f388e0c4c3463f9d844366b68a0d841f530e729c89551c5a2ee196fffcdba6b42cd3c99a6406b5734f"
    "b2933fe5b6f8796b7883bb487a335054b6988208f4d167867ab3c26b76436bfd01bffabb518b338ece3b353375082ecdbee1"
    "3e17908a1c04f00e2494832f0b858019e56d9514dea77f9d38667141bee93c62a62ac8968be197cd9a23a5266ccf2a9f0d47"
    "4f996f53fca7d2590dc67d73160de7544260712ce75c3d318ace2bb09d70e34772aad7d6f18b6e11757f984883ae8dae034c"
    "0f48b07dbb25c06a52915ae29fa17b8f53c9f77c035e32a3fa4462f98dd03363ca54c76b93fe06b96f3520c6b1e6f5f7b376"
    "ac0b749279e558f2f881393a6299cf3d55c065ea0023faf662132de5e9c5ede9d026018ad53b83954608c9b48dcf9b52ac00"
    "6eee36b51fadaf027dfea44625821627fa5c4c1f6608b74680ef1d0d85fa249ed648219ae1227da590539654805fe60c1a37"
    "daeca2c4c8217333eeb927dbb312b982a8c021251913e9dc548a167565ea5bd6a57e83dff526fe4dcb25a4f2d3d0d0f8f6aa"
    "3130beaa0cf3e643790c0cd34e2a8f98312cdf0a0f426a358fb928ab2f25a220b36a26923d48faadf9f7d57bd6935e912f0e"
    "9f3dcb0bf3bc47f8e806ec4986d5cb9e9d47597b12b46d8b9028560e383bef53a316f08a87f6bcb0fe145bd15e80c10df9a8"
    "7bb1ef31d56b533b64445bbfe3e125d36f6ae5d2ae2e225367d0870862d8a8c08f6095ed8dc627b101f8ce5a28b177efb2c2"
    "fbf6ad439c1afdf9a839976bf8865802480361a4042efd6b3d48468f52c8bf29b6a781f10d12c42a980e89460ea293e32f8b"
    "ecec834530b06e9518b152e45f7f2bd57d8d299e774f9c6655691c45e0b3e44f2c529d0a685a7b043607321f485f8f62dd93"
    "875eff1335f600c23d2ef41292936f9c785000145177d34048a67cdb8d7adff52e3dc05eea465f9bc7d53f12aff2340e338a"
    "9678f3750aae0c885282ae312fb98e9c10cb6c9296994ce3cdb7c7e1deedd96411248b565d861147e371b0067b7af4d1bb18"
    "38a037e4d01b976237b3cb663404dcdb38e71fc59fea812f8230166b77b7d32e8a2f2e06b783227ae617b773d2b1e232f138"
    "61a77b7d90d480bb13e403be7bb2a05b02d22dcb82c63db264f3f79d24547962bad835af4e58a4df0b581624e0ae9f75e80e"
    "ca7094ec20a53eb652365b8f82ef410812305e057e485b417ad2a6afc5a97e7681dde3ce7f8413a6371400245479ae1879"
)


def wrong_answers() -> list[str]:
    """Names of the primitives whose answer is not the known one; what a primitive raises comes out."""
    key, nonce = b"\1" + bytes(31), b"\3" + bytes(11)
    sealed = bytes.fromhex("c2ef328e5c71c83b843122130f7364b761e0b97427e3df28")
    given = {
        "HKDF-SHA-512": primitives.expand(bytes(range(32)), primitives.Label.CARD),
        "HMAC-SHA-256": primitives.mac_sha256(b"Jefe", b"what do ya want for nothing?"),
        "sealing by AES-256-GCM-SIV": primitives.seal_gcm_siv(key, nonce, b"\1" + bytes(7), b""),
        "opening by AES-256-GCM-SIV": primitives.open_gcm_siv(key, nonce, sealed, b""),
        "Cobblestone-256": primitives.open_frame(bytes(range(32)), _INFO, _FRAME),
        "X-Wing key derivation": hashlib.sha256(primitives.public_octets(_SEED)).digest(),
        "HPKE with X-Wing": primitives.hpke_open(primitives.private_key(_SEED), _INFO, _HPKE),
        "bcrypt_pbkdf": primitives.password_kdf(b"password", b"salt", 4),
        "refusal of changed values": _refusals(),
    }
    known = {
        "HKDF-SHA-512": bytes.fromhex("1296c0741bd8b49ef4d6cd9166096565653369ff96a78210620940283041ccad"),
        "HMAC-SHA-256": bytes.fromhex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        "sealing by AES-256-GCM-SIV": sealed,
        "opening by AES-256-GCM-SIV": b"\1" + bytes(7),
        "Cobblestone-256": b"a frame of content",
        "X-Wing key derivation": bytes.fromhex(_PUBLIC_SHA256),
        "HPKE with X-Wing": b"a sealed card",
        "bcrypt_pbkdf": bytes.fromhex("5bbf0cc293587f1c3635555c27796598d47e579071bf427e9d8fbe842aba34d9"),
        "refusal of changed values": b"\0\0\0",
    }
    return [name for name, answer in known.items() if not compare_digest(given[name], answer)]


def _refusals() -> bytes:
    """A zero octet for each primitive that refuses a value with its last bit changed."""
    nonce, sealed = bytes(12), primitives.seal_gcm_siv(bytes(32), bytes(12), b"x", b"")
    attempts: tuple[Callable[[], bytes], ...] = (
        lambda: primitives.open_gcm_siv(bytes(32), nonce, _changed(sealed), b""),
        lambda: primitives.open_frame(bytes(range(32)), _INFO, _changed(_FRAME)),
        lambda: primitives.hpke_open(primitives.private_key(_SEED), _INFO, _changed(_HPKE)),
    )
    opened = bytearray()
    for attempt in attempts:
        try:
            attempt()
        except SealBroken:
            opened.append(0)
        else:
            opened.append(1)
    return bytes(opened)


def _changed(value: bytes) -> bytes:
    return value[:-1] + bytes([value[-1] ^ 1])
