"""Autoconfig (``config-v1.1.xml``), which Thunderbird, K-9, Evolution and KMail fetch for the domain of an address.

The format is Mozilla's ConfigFileFormat 1.1: at least one incoming and one outgoing server, the best first, each with
host, port, kind of TLS, user name and how to log in.
"""

from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from certmaild.client_setup.settings import ClientSettings, Security, Server, Speaks

USER_NAME = "%EMAILADDRESS%"
"""Which the mail program replaces by the address that was typed."""
_TYPES = {Speaks.IMAP: "imap", Speaks.POP3: "pop3", Speaks.SMTP: "smtp"}
_SOCKETS = {Security.TLS: "SSL", Security.STARTTLS: "STARTTLS"}


def autoconfig(settings: ClientSettings, domain: str) -> bytes:
    """The file for everybody at ``domain`` (A-labels)."""
    root = Element("clientConfig", version="1.1")
    provider = SubElement(root, "emailProvider", id=domain)
    _put(provider, domain=domain, displayName=f"Mail for {domain}", displayShortName=domain)
    for server in (*settings.incoming, *settings.outgoing):
        kind = "outgoingServer" if server.speaks is Speaks.SMTP else "incomingServer"
        _put_server(SubElement(provider, kind, type=_TYPES[server.speaks]), server)
    return written(root)


def _put_server(parent: Element, server: Server) -> None:
    _put(
        parent,
        hostname=server.host,
        port=str(server.port),
        socketType=_SOCKETS[server.security],
        authentication="password-cleartext",
        username=USER_NAME,
    )


def _put(parent: Element, **texts: str) -> None:
    for name, text in texts.items():
        SubElement(parent, name).text = text


def written(root: Element) -> bytes:
    """The document as UTF-8, indented."""
    ElementTree.indent(root)
    octets: bytes = ElementTree.tostring(root, "utf-8", xml_declaration=True)
    return octets + b"\n"
