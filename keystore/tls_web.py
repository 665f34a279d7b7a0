"""The client's side of TLS to a web server: a chain to a known authority, for the very name, TLS 1.2 or later."""

from typing import Any

from OpenSSL import SSL
from service_identity.exceptions import VerificationError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, TLSVersion, optionsForClientTLS, platformTrust, trustRootFromCertificates
from twisted.python.failure import Failure

from certmaild.keystore.tls_values import Authorities, authorities_pem

_END = b"-----END CERTIFICATE-----"


def web_client(host: str, authorities: Authorities | None = None) -> IOpenSSLClientConnectionCreator:
    """For one connection to ``host`` (A-labels), sent as SNI; ``authorities`` None means the system's.

    Raises `OSError` for a file that cannot be read.
    """
    trust: Any = platformTrust()  # type: ignore[no-untyped-call]  # Twisted's
    if authorities is not None:
        blocks = authorities_pem(authorities).split(_END)[:-1]
        trust = trustRootFromCertificates([Certificate.loadPEM(block + _END) for block in blocks])  # type: ignore[no-untyped-call]  # Twisted's
    return optionsForClientTLS(
        host,
        trustRoot=trust,
        extraCertificateOptions={"raiseMinimumTo": TLSVersion.TLSv1_2},
    )


def is_certificate_fault(failure: Failure) -> bool:
    """Whether a connection ended because the server did not prove who it is, or not by TLS as it should be."""
    return failure.check(SSL.Error, VerificationError) is not None  # type: ignore[no-untyped-call]  # Twisted's
