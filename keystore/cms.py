"""Signing a file with the server's certificate (CMS, RFC 5652), as Apple's configuration profiles are signed."""

from collections.abc import Sequence

from cryptography import x509

from certmaild.keystore.primitives import PrivateKeyTypes, ec, hashes, pkcs7, rsa, serialization


def signed(content: bytes, chain: Sequence[x509.Certificate], key: PrivateKeyTypes) -> bytes | None:
    """DER of SignedData that holds ``content`` and the whole ``chain`` (the signer's certificate first).

    None for a key that is neither RSA nor EC: what reads such files knows no others.
    """
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        return None
    builder = pkcs7.PKCS7SignatureBuilder().set_data(content).add_signer(chain[0], key, hashes.SHA256())
    for certificate in chain[1:]:
        builder = builder.add_certificate(certificate)
    return builder.sign(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.NoCapabilities])
