"""The HTTPS responder of the real daemon, with two workers: fetched by curl, and met by clients that mean no good."""

import json
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from email.parser import BytesParser
from pathlib import Path

import pytest
from daemon import Daemon, free_ports
from hostile_support import PATIENCE_S, connect, dial, eventually, read_all

HOST = "autoconfig.example.com"
PATH = "/mail/config-v1.1.xml"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Ours alone: with the responder on."""
    with Daemon(
        tmp_path_factory.mktemp("responder"),
        workers=2,
        hostname="mail.example.com",
        own_ports={"https": free_ports(1)[0]},
    ) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def silent(web: Daemon) -> list[socket.socket]:
    """One that says nothing, and one that says half a request, from before the first test on."""
    half = connect(web, "https")
    half.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
    return [dial(web, "https"), half]


def fetch(web: Daemon, host: str, path: str, *words: str) -> tuple[int, dict[str, str], bytes]:
    """Status, header and content as curl gets them, the certificate verified for ``host``."""
    port = web.ports["https"]
    done = subprocess.run(
        [
            *("curl", "-sS", "-i", "--path-as-is", "--max-time", str(PATIENCE_S), "--cacert", str(web.ca_file)),
            *("--resolve", f"{host}:{port}:127.0.0.1", *words, f"https://{host}:{port}{path}"),
        ],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    first, _, fields = head.partition(b"\r\n")
    return int(first.split()[1]), dict(BytesParser().parsebytes(fields).items()), content


def test_it_gives_what_static_writes(web: Daemon, tmp_path: Path) -> None:
    web.command("static", str(tmp_path))
    listed = json.loads(web.command("static", str(tmp_path), "--json"))
    served = [one for one in listed if one["host"] != "example.com"]
    assert len(served) == 3
    for one in served:
        status, fields, content = fetch(web, one["host"], one["path"])
        assert (status, fields["Content-Type"]) == (200, one["content_type"])
        written = (tmp_path / one["host"] / one["path"].lstrip("/")).read_bytes()
        if one["path"].endswith(".mobileconfig"):
            assert len(content) == pytest.approx(len(written), abs=20), "signed at another moment"
        else:
            assert content == written
        assert "Server" not in fields and "Set-Cookie" not in fields


def test_thunderbirds_question_and_outlooks(web: Daemon) -> None:
    assert fetch(web, HOST, PATH + "?emailaddress=ann%40example.com")[0] == 200
    question = (
        '<?xml version="1.0"?><Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/'
        'requestschema/2006"><Request><EMailAddress>ann@example.com</EMailAddress></Request></Autodiscover>'
    )
    for path in ("/autodiscover/autodiscover.xml", "/Autodiscover/Autodiscover.xml"):
        status, fields, content = fetch(web, "autodiscover.example.com", path, "-d", question)
        assert status == 200 and b"<Type>IMAP</Type>" in content and b"ann@" not in content
        assert fields["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "words", "status"),
    [
        (PATH, ["-X", "POST"], 405),
        (PATH, ["-X", "DELETE"], 405),
        ("/", [], 404),
        ("/mail/%2e%2e/mail/config-v1.1.xml", [], 404),
        ("/mail/../../../etc/passwd", [], 404),
        (PATH, ["-H", "Host: other.example"], 404),
        (PATH, ["-H", "Host:"], 400),
        (PATH, ["-H", "Transfer-Encoding: chunked", "-d", "a"], 501),
        (PATH, ["-H", "X: " + "x" * 9000], 431),
        (PATH, ["-H", "Expect:", "-d", "x" * 5000], 413),
    ],
)
def test_what_is_refused(web: Daemon, path: str, words: list[str], status: int) -> None:
    assert fetch(web, HOST, path, *words)[0] == status


def test_a_smuggled_request_is_not_answered(web: Daemon) -> None:
    client = connect(web, "https")
    one = f"GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n".encode()
    client.sendall(one + one)
    answer = read_all(client)
    assert answer.count(b"HTTP/1.1 200 OK") == 1 and b"Connection: close" in answer


@pytest.mark.parametrize(
    ("offered", "chosen"), [([], None), (["h2", "http/1.1"], "http/1.1"), (["h2"], "none"), (["imap"], "none")]
)
def test_alpn(web: Daemon, offered: list[str], chosen: str | None) -> None:
    context = web.tls_context()
    if offered:
        context.set_alpn_protocols(offered)
    with dial(web, "https") as raw:
        if chosen == "none":
            with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
                context.wrap_socket(raw, server_hostname=HOST)
        else:
            with context.wrap_socket(raw, server_hostname=HOST) as client:
                assert client.selected_alpn_protocol() == chosen


def test_http_in_clear_and_mail_get_nothing(web: Daemon) -> None:
    with dial(web, "https") as raw:
        raw.sendall(f"GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert b"HTTP" not in read_all(raw)
    client = connect(web, "https")
    client.sendall(b"a1 CAPABILITY\r\n\r\n")
    assert read_all(client).startswith(b"HTTP/1.1 400 ")


def test_the_hundred_and_first_of_an_address_is_not_served_and_another_is(web: Daemon) -> None:
    crowd = [dial(web, "https", "127.0.0.9") for _ in range(100)]

    def is_turned_away() -> bool:
        try:
            with dial(web, "https", "127.0.0.9") as late:
                late.settimeout(1)
                return late.recv(1) == b""
        except TimeoutError:
            return False  # the crowd is not all counted yet
        except ConnectionError:
            return True

    assert eventually(is_turned_away)
    assert fetch(web, HOST, PATH)[0] == 200
    for client in crowd:
        client.close()


def test_a_new_domain_is_served_after_sighup_under_a_certificate_for_it(web: Daemon) -> None:
    text = web.config.read_text()
    web.config.write_text(text.replace('["example.com"]', '["example.com", "new.example"]', 1))
    assert web.process is not None
    web.process.send_signal(signal.SIGHUP)

    def is_served() -> bool:
        try:
            return b'id="new.example"' in fetch(web, "autoconfig.new.example", PATH)[2]
        except AssertionError:
            return False  # the certificate, or the file, is not there yet

    assert eventually(is_served)


def test_certmaild_check_tries_it_too(web: Daemon) -> None:
    steps = json.loads(web.command("check", "--json"))
    assert [one["problem"] for one in steps] == [""] * len(steps)
    assert steps[-1]["name"] == "https: fetch Autoconfig"


@pytest.mark.long
def test_silence_has_ended_by_now(silent: list[socket.socket]) -> None:
    for client in silent:
        client.settimeout(PATIENCE_S)
        assert read_all(client) == b""


def test_nothing_of_a_request_is_logged(web: Daemon) -> None:
    log = web.log.read_text()
    assert "emailaddress" not in log and "Traceback" not in log
