"""What a serving process does by the clock."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from OpenSSL import SSL
from support import reactor as pump
from support import run

from certmaild.config import default
from certmaild.house import DAY_S, House
from certmaild.keystore.tls import Application
from certmaild.setup import set_up


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house without ports."""
    config = default(str(tmp_path / "data"))
    set_up(config)
    house = House(config, pump)
    run(house.open([]))
    yield house
    run(house.close())


class Visitor:
    """A TLS client over memory that keeps its session, as a mail program does."""

    def __init__(self) -> None:
        self._context = ssl.create_default_context()
        self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE
        self._session: ssl.SSLSession | None = None

    def is_known(self, server: SSL.Connection) -> bool:
        """Shake hands and read a greeting; whether the session of the last time was taken up again."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = self._context.wrap_bio(incoming, outgoing, session=self._session)
        greeted = False
        while True:
            try:
                assert client.read(2) == b"OK"
                self._session = client.session
                return bool(client.session_reused)
            except ssl.SSLWantReadError:
                server.bio_write(outgoing.read())
            try:
                server.do_handshake()
                if not greeted:
                    server.send(b"OK")
                    greeted = True
            except SSL.WantReadError:
                pass
            incoming.write(server.bio_read(1 << 16))


def test_ticket_keys_are_renewed_daily(house: House) -> None:
    visitor = Visitor()
    creator = house.edge.creator(Application.IMAP)
    assert not visitor.is_known(creator.serverConnectionForTLS(None))
    assert visitor.is_known(creator.serverConnectionForTLS(None))
    pump.advance(DAY_S - 1)
    assert visitor.is_known(creator.serverConnectionForTLS(None))
    pump.advance(1)
    assert not visitor.is_known(creator.serverConnectionForTLS(None))
    assert visitor.is_known(creator.serverConnectionForTLS(None))
