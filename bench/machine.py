"""The machine's own limits, beside which a server's figures stand: `bench/machine.py`.

Durable commits a second (append 4 KiB and fdatasync), TLS throughput of one connection between two processes, and a
bare loop: what sealing, compressing and committing 10 KiB messages costs with nothing around it, no network, no MIME.
"""

import os
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

from figures import make_message, print_figure

LOOP_S = 2.0
GROUP = 32
"""Messages in one commit of the bare loop."""


def commits_per_s(folder: Path) -> float:
    """How often a second 4 KiB can be appended to a file and made durable, one after the other."""
    descriptor = os.open(folder / "commits", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        block, count, begun = bytes(4096), 0, time.perf_counter()
        while time.perf_counter() - begun < LOOP_S:
            os.write(descriptor, block)
            os.fdatasync(descriptor)
            count += 1
        return count / (time.perf_counter() - begun)
    finally:
        os.close(descriptor)


def tls_mb_per_s(folder: Path) -> float:
    """Megabytes a second that one process sends to another over TLS 1.3 on loopback, Python's ssl at both ends."""
    certificate, key = folder / "server.pem", folder / "server.key"
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))
    child = os.fork()
    if child == 0:
        try:
            with server.wrap_socket(listener.accept()[0], server_side=True) as sending:
                block, begun = bytes(262144), time.perf_counter()
                while time.perf_counter() - begun < LOOP_S:
                    sending.sendall(block)
        finally:
            os._exit(0)
    client = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    raw = socket.create_connection(listener.getsockname())
    listener.close()
    total = 0
    with client.wrap_socket(raw, server_hostname="localhost") as receiving:
        begun, buffer = time.perf_counter(), bytearray(262144)
        while got := receiving.recv_into(buffer):
            total += got
        wall = time.perf_counter() - begun
    os.waitpid(child, 0)
    return total / wall / 1e6


def bare_loop(folder: Path) -> tuple[float, float]:
    """Messages a second and CPU milliseconds each: zstd, AES-256-GCM, X-Wing, LMDB commits of `GROUP`."""
    import lmdb
    import zstandard
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite

    suite = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    # Random keys: what is sealed here is never opened.
    public = MLKEM768X25519PrivateKey(MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()).public_key()
    zstd = zstandard.ZstdCompressor(level=3)
    contents = [make_message(number, 10240) for number in range(100)]
    with lmdb.open(str(folder / "loop"), map_size=1 << 33) as environment:
        count, begun, own = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - begun < LOOP_S:
            with environment.begin(write=True) as txn:
                for _ in range(GROUP):
                    key = AESGCM.generate_key(256)
                    frame = AESGCM(key).encrypt(bytes(12), zstd.compress(contents[count % 100]), None)
                    place = count.to_bytes(8, "big")
                    txn.put(b"f" + place, frame)
                    txn.put(b"s" + place, suite.encrypt(key, public, info=place))
                    count += 1
        return count / (time.perf_counter() - begun), (time.process_time() - own) / count * 1000


def measure() -> dict[str, float | int]:
    """All of them."""
    from peer import write_certificate

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_certificate(folder)
        rate, cost = bare_loop(folder)
        return {
            "cores": os.cpu_count() or 1,
            "commits_per_s": commits_per_s(folder),
            "tls_mb_per_s": tls_mb_per_s(folder),
            "bare_loop_per_s": rate,
            "bare_loop_cpu_ms_each": cost,
        }


def describe() -> str:
    """The processor, in its own words."""
    lines = subprocess.run(["lscpu"], capture_output=True, text=True, check=False, env={"LC_ALL": "C"}).stdout
    names = [line.split(":", 1)[1].strip() for line in lines.splitlines() if line.startswith("Model name:")]
    return names[0] if names else "an unnamed processor"


if __name__ == "__main__":
    print_figure("machine", **measure())
