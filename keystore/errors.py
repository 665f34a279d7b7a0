"""What the locks refuse."""

from certmaild.keystore.tls_values import TlsResult


class KeystoreError(Exception):
    """Base of what this floor refuses."""


class SealBroken(KeystoreError):
    """A sealed value does not open: changed, moved, or sealed under another key."""


class KeysClosed(KeystoreError):
    """The key ring was closed; it never yields bytes again."""


class PublicKeySwapped(KeystoreError):
    """The stored public key is not the one this user made: an alarm, not a fault."""


class SecretsMissing(KeystoreError):
    """A server secret is absent or not the one the store was made with; never made anew silently."""


class SecretsExposed(SecretsMissing):
    """A server secret can be read by others than its owner."""


class PrimitiveUnfit(KeystoreError):
    """The cryptographic library lacks a primitive or computes it wrongly; nothing may start."""


class CertificateUnfit(KeystoreError):
    """A certificate or key file cannot be used; the text is one sentence for the operator."""


class TlsUnproven(KeystoreError):
    """A server did not prove what it must. ``words`` are a clause: ``its certificate expired on 2026-11-01``."""

    def __init__(self, words: str, result: TlsResult) -> None:
        super().__init__(words)
        self.words = words
        self.result = result


class SignatureKeyUnfit(KeystoreError):
    """A key of signatures on mail cannot be used; the text is a few words."""
