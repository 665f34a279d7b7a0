"""What Thunderbird for Android reads from a QR code: a whole account, password and all (Settings > Import > QR code).

The format is version 1 of Thunderbird's "Export for Mobile", a JSON array without names.
"""

import json

from certmaild.client_setup.settings import ClientSettings, Security, Server, Speaks

_VERSION = 1
_PROTOCOLS = {Speaks.IMAP: 0, Speaks.POP3: 1, Speaks.SMTP: 0}
_SECURITY = {Security.STARTTLS: 2, Security.TLS: 3}
_PASSWORD = 1
"""A password in the clear inside TLS."""


def scanned(settings: ClientSettings, password: str, *, name: str = "", by: Speaks = Speaks.IMAP) -> str:
    """The text of the QR code: as secret as ``password``, which is in it. ``name`` is the person's, for From.

    Raises `ValueError` when the server does not speak ``by`` or takes no mail from clients.
    """
    incoming, outgoing = settings.server(by), settings.server(Speaks.SMTP)
    if incoming is None or outgoing is None:
        raise ValueError(f"the server does not speak {by.value if incoming is None else 'SMTP to clients'}")
    user = settings.account
    account = [*_server(incoming), user, user, password]
    group = [[*_server(outgoing), user, password], [user, name]]
    return json.dumps([_VERSION, [1, 1], account, [group]], separators=(",", ":"), ensure_ascii=False)


def _server(server: Server) -> list[object]:
    return [_PROTOCOLS[server.speaks], server.host, server.port, _SECURITY[server.security], _PASSWORD]
