"""Autodiscover, which classic Outlook asks for the domain of an address: the plain XML answer (POX, MS-OXDSCLI).

The answer is the same for everybody at a domain, so that a file on any web server does; it names no user. Outlook then
takes the address that was typed: ``DomainRequired`` and ``DomainName`` make it more than the part before ``@``.
"""

from xml.etree.ElementTree import Element, SubElement

from certmaild.client_setup.autoconfig import written
from certmaild.client_setup.settings import ClientSettings, Security, Server

_ANSWER = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"
_SETTINGS = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"


def autodiscover(settings: ClientSettings, domain: str) -> bytes:
    """The answer for everybody at ``domain`` (A-labels)."""
    root = Element("Autodiscover", xmlns=_ANSWER)
    account = SubElement(SubElement(root, "Response", xmlns=_SETTINGS), "Account")
    SubElement(account, "AccountType").text = "email"
    SubElement(account, "Action").text = "settings"
    # One server of each kind: Outlook takes the last of two.
    for server in (*settings.incoming, *settings.outgoing[:1]):
        protocol = SubElement(account, "Protocol")
        for name, text in _protocol(server, domain).items():
            SubElement(protocol, name).text = text
    return written(root)


def _protocol(server: Server, domain: str) -> dict[str, str]:
    return {
        "Type": server.speaks.value,
        "Server": server.host,
        "Port": str(server.port),
        "DomainRequired": "on",
        "DomainName": domain,
        "SPA": "off",
        "SSL": "on",
        "Encryption": "SSL" if server.security is Security.TLS else "TLS",
        "AuthRequired": "on",
    }
