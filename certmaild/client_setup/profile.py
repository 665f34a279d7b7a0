"""Configuration profiles for Apple's devices (``.mobileconfig``), one mail account in each.

The format is Apple's: a property list, signed as CMS by the server's certificate. A signature that the device can
follow to an authority it trusts shows "Verified" there; with an authority of our own it does not, and the profile
then carries that authority's certificate, which the user may trust.
"""

import plistlib
from uuid import UUID, uuid5

from certmaild.client_setup.settings import ClientSettings, Server, Speaks, settings_for
from certmaild.config_values import Config
from certmaild.keystore.certificates import PrivateFiles, certificate_der, read_certificates
from certmaild.keystore.cms import signed
from certmaild.keystore.tls import Identity, read_identity

SUFFIX = ".mobileconfig"
CONTENT_TYPE = "application/x-apple-aspen-config"
_SPACE = UUID("6f0a4fd6-3b5e-5d34-8f0b-2c1c5b0c7a11")
"""Makes the identifiers of profiles: the same account gives the same ones, so that a new profile replaces the old."""


def mobileconfig(
    config: Config, settings: ClientSettings, *, password: str | None = None, by: Speaks = Speaks.IMAP
) -> bytes:
    """The account as a profile, signed where the server's key allows it.

    Without ``password`` the device asks for it, and nothing in the profile is secret; with it the profile is as secret
    as the password. Raises `CertificateUnfit`, and `ValueError` when the server does not speak ``by`` or takes no mail.
    """
    plain = _profile(config, settings, settings.account, password, by)
    return _signed(plain, read_identity(config.tls.default))


def domain_profile(config: Config, domain: str, identity: Identity, *, by: Speaks = Speaks.IMAP) -> bytes:
    """A profile for anybody at ``domain``, signed by ``identity``: the device asks for address, name and password.

    Raises as above.
    """
    return _signed(_profile(config, settings_for(config, domain), None, None, by), identity)


def _signed(plain: bytes, identity: Identity) -> bytes:
    return signed(plain, identity.chain, identity.key) or plain


def _profile(config: Config, settings: ClientSettings, account: str | None, password: str | None, by: Speaks) -> bytes:
    incoming, outgoing = settings.server(by), settings.server(Speaks.SMTP)
    if incoming is None or outgoing is None:
        raise ValueError(f"the server does not speak {by.value if incoming is None else 'SMTP to clients'}")
    whose = account or settings.account
    contents = [_mail(config, incoming, outgoing, account, whose, password)]
    if config.tls.private:
        contents.append(_authority(config))
    name = f"{config.hostname}: {whose}"
    return plistlib.dumps(
        {
            **_head(config, "Configuration", "profile", whose),
            "PayloadDisplayName": name,
            "PayloadDescription": f"Sets up mail for {whose}.",
            "PayloadOrganization": config.hostname,
            "PayloadRemovalDisallowed": False,
            "PayloadContent": contents,
        }
    )


def _head(config: Config, kind: str, part: str, whose: str) -> dict[str, object]:
    number = str(uuid5(_SPACE, f"{config.hostname}\0{part}\0{whose}")).upper()
    return {
        "PayloadType": kind,
        "PayloadVersion": 1,
        "PayloadIdentifier": f"{'.'.join(reversed(config.hostname.split('.')))}.certmaild.{part}.{number}",
        "PayloadUUID": number,
    }


def _mail(
    config: Config, incoming: Server, outgoing: Server, account: str | None, whose: str, password: str | None
) -> dict[str, object]:
    kind = "EmailTypeIMAP" if incoming.speaks is Speaks.IMAP else "EmailTypePOP"
    payload: dict[str, object] = {
        **_head(config, "com.apple.mail.managed", "mail", whose),
        "PayloadDisplayName": f"Mail for {whose}",
        "EmailAccountDescription": whose,
        "EmailAccountType": kind,
        "OutgoingPasswordSameAsIncomingPassword": True,
        **_side("Incoming", incoming, account),
        **_side("Outgoing", outgoing, account),
    }
    if account is not None:
        payload["EmailAddress"] = account
    if password is not None:
        payload["IncomingPassword"] = password
    return payload


def _side(side: str, server: Server, account: str | None) -> dict[str, object]:
    found: dict[str, object] = {
        f"{side}MailServerAuthentication": "EmailAuthPassword",
        f"{side}MailServerHostName": server.host,
        f"{side}MailServerPortNumber": server.port,
        # STARTTLS too: the device finds out by itself which of the two the port has.
        f"{side}MailServerUseSSL": True,
    }
    if account is not None:
        found[f"{side}MailServerUsername"] = account
    return found


def _authority(config: Config) -> dict[str, object]:
    certificate = read_certificates(PrivateFiles(config.data).authority)[0]
    return {
        **_head(config, "com.apple.security.root", "authority", config.hostname),
        "PayloadDisplayName": f"Certificate authority of {config.hostname}",
        "PayloadContent": certificate_der(certificate),
    }
