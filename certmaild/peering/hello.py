"""What a partner's administrator needs to set up his side: our facts, our terms, and the lines for his mail server.

Postfix and Exim are given whole lines, Microsoft 365 and Google Workspace the commands and where to click.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from certmaild.keystore.certificates import certificate_names, key_pin, read_certificates
from certmaild.own_facts import OwnFacts
from certmaild.partners.reading import format_pin
from certmaild.partners.record import PartnerRecord
from certmaild.partners.writing import authority_names, summary


@dataclass(frozen=True, slots=True)
class Lines:
    """Something to put somewhere."""

    where: str
    """A file, a tool or a page, in words."""
    text: str


@dataclass(frozen=True, slots=True)
class Sheet:
    """One kind of mail server."""

    name: str
    steps: tuple[Lines, ...]


def own_facts(facts: OwnFacts, sources: Sequence[str], record: PartnerRecord | None) -> list[str]:
    """Who we are, a line a fact. ``sources``: the addresses we send from, as far as they are known."""
    lines = [
        f"Domains:             {', '.join(facts.domains)}",
        f"Server:              {facts.host}, port {facts.port}, STARTTLS, TLS 1.2 or later",
        f"Sends from:          {', '.join(sources) or 'the addresses of ' + facts.host}, as EHLO {facts.host}",
        f"Largest message:     {facts.most_octets} octets",
        f"Certificate for:     {', '.join(_partners_names(facts))}; until {facts.not_after:%Y-%m-%d}",
        f"  SHA-256:           {_colons(facts.fingerprints[0])}",
    ]
    lines += [f"  issuer's SHA-256:  {_colons(one)}" for one in facts.fingerprints[1:]]
    lines.append(f"Public key (SPKI):   {format_pin(facts.pin)}")
    lines.append(f"                     {_colons(facts.pin)}")
    if facts.next_pin is not None:
        lines.append(f"The key to come:     {format_pin(facts.next_pin)}")
        lines.append(f"                     {_colons(facts.next_pin)}")
    lines.append(f"Contact:             {facts.contact}")
    if record is not None and record.client is not None:
        lines.append("Client certificate:  we show one; its authority or key comes to you with this sheet")
    return lines


def _partners_names(facts: OwnFacts) -> Sequence[str]:
    """Those in our certificate that matter to a server: not the many that mail programs guess."""
    return (facts.host,) if facts.host in facts.names else facts.names


def our_terms(record: PartnerRecord | None, domain: str, default_level: str) -> list[str]:
    """What we ask of him, in words."""
    if record is None:
        return [
            f"There is no record of {domain} here yet: mail goes there by the level {default_level}, and from there "
            "like anybody's. certmaild partner add makes one.",
        ]
    lines = [f"{domain}: {summary(record)}."]
    if record.counts_in:
        asked = ["comes over TLS"]
        if record.networks:
            asked.append("from " + ", ".join(map(str, record.networks)))
        if record.asks_certificate:
            asked.append("and your server shows a certificate " + _certificate_asked(record))
        lines.append(f"Mail with a sender of {domain} is taken only if it {', '.join(asked)}; else it gets 530 or 550.")
    return lines


def _certificate_asked(record: PartnerRecord) -> str:
    ways = [f"with the key {format_pin(pin)}" for pin in record.pins]
    if record.ca is not None:
        names = f" for {' or '.join(record.names)}" if record.names else ""
        ways.append(f"by {authority_names(record)}{names}")
    return " or ".join(ways)


def sheets(facts: OwnFacts, sources: Sequence[str], record: PartnerRecord | None) -> list[Sheet]:
    """All kinds of servers."""
    return [
        postfix(facts, record),
        exim(facts, record),
        microsoft(facts, sources, record),
        google(facts, record),
    ]


def _colons(octets: bytes) -> str:
    return octets.hex(":").upper()


def _hop(facts: OwnFacts, domain: str) -> str:
    """What Postfix calls the next hop."""
    return domain if facts.port == 25 else f"[{facts.host}]:{facts.port}"


def _authority_file(facts: OwnFacts) -> str:
    return f"{facts.host}-ca.pem"


# Postfix.


def postfix(facts: OwnFacts, record: PartnerRecord | None) -> Sheet:
    """Lines for Postfix 3.4 and later: `smtp_tls_policy_maps`, and TLS for what claims to come from us."""
    private = facts.authority is not None
    tafile = f" tafile=/etc/postfix/{_authority_file(facts)}" if private else ""
    hops = dict.fromkeys(_hop(facts, domain) for domain in facts.domains)
    policy = "\n".join(
        f"{hop} secure match={facts.host} servername={facts.host} protocols=>=TLSv1.2{tafile}" for hop in hops
    )
    pins = [facts.pin] if facts.next_pin is None else [facts.pin, facts.next_pin]
    matches = " ".join(f"match={_colons(pin)}" for pin in pins)
    pinned = "\n".join(f"{hop} fingerprint {matches} servername={facts.host} protocols=>=TLSv1.2" for hop in hops)
    main = "smtp_tls_policy_maps = hash:/etc/postfix/tls_policy"
    main += "\nsmtp_tls_fingerprint_digest = sha256"
    if not private:
        main += "\nsmtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt"
    steps = []
    if facts.authority is not None:
        steps.append(Lines(f"/etc/postfix/{_authority_file(facts)}, readable for all", facts.authority.rstrip("\n")))
    steps.append(Lines("/etc/postfix/tls_policy", policy))
    steps.append(Lines("or, to trust our keys alone, in /etc/postfix/tls_policy", pinned))
    if facts.port != 25:
        routes = "\n".join(f"{domain} smtp:[{facts.host}]:{facts.port}" for domain in facts.domains)
        steps.append(Lines("/etc/postfix/transport", routes))
        main += "\ntransport_maps = hash:/etc/postfix/transport"
    if record is not None and record.asks_certificate:
        main += "\nsmtp_tls_chain_files = /etc/postfix/client-key-and-chain.pem"
    steps += [
        Lines("/etc/postfix/main.cf, for mail to us", main),
        *_postfix_inbound(facts, record),
        Lines("as root", _postmap(facts, record)),
    ]
    return Sheet("Postfix", tuple(steps))


def _postfix_inbound(facts: OwnFacts, record: PartnerRecord | None) -> list[Lines]:
    senders = "\n".join(f"{domain} reject_plaintext_session" for domain in facts.domains)
    main = (
        "smtpd_tls_security_level = may\nsmtpd_sender_restrictions = check_sender_access hash:/etc/postfix/tls_senders"
    )
    if record is None or record.client is None:
        return [
            Lines("/etc/postfix/tls_senders", senders),
            Lines("/etc/postfix/main.cf, for mail from us (put it before other sender restrictions)", main),
        ]
    senders = "\n".join(f"{domain} certmaild_shows_its_certificate" for domain in facts.domains)
    main += (
        "\nsmtpd_tls_ask_ccert = yes\nsmtpd_tls_fingerprint_digest = sha256\n"
        "smtpd_restriction_classes = certmaild_shows_its_certificate\n"
        "certmaild_shows_its_certificate = check_ccert_access hash:/etc/postfix/certmaild_keys, reject"
    )
    return [
        Lines("/etc/postfix/tls_senders", senders),
        Lines("/etc/postfix/certmaild_keys", "\n".join(f"{_colons(pin)} OK" for pin in client_pins(record))),
        Lines("/etc/postfix/main.cf, for mail from us (put it before other sender restrictions)", main),
    ]


def _postmap(facts: OwnFacts, record: PartnerRecord | None) -> str:
    maps = "tls_policy tls_senders"
    maps += "" if facts.port == 25 else " transport"
    maps += "" if record is None or record.client is None else " certmaild_keys"
    return f"cd /etc/postfix && postmap {maps} && postfix reload"


def client_pins(record: PartnerRecord) -> list[bytes]:
    """Of the certificate that we show. Raises `CertificateUnfit`."""
    return [] if record.client is None else [key_pin(read_certificates(record.client.certificate)[0])]


# Exim.


def exim(facts: OwnFacts, record: PartnerRecord | None) -> Sheet:
    """A router, a transport and an ACL entry."""
    private = facts.authority is not None
    authorities = f"/etc/exim4/{_authority_file(facts)}" if private else "system"
    steps = []
    if facts.authority is not None:
        steps.append(Lines(f"/etc/exim4/{_authority_file(facts)}, readable for all", facts.authority.rstrip("\n")))
    domains = " : ".join(facts.domains)
    own = ""
    if record is not None and record.asks_certificate:
        own = "\n  tls_certificate = /etc/exim4/client-chain.pem\n  tls_privatekey = /etc/exim4/client-key.pem"
    steps += [
        Lines(
            "routers, before the one for all other hosts",
            f"certmaild_partner:\n  driver = manualroute\n  domains = {domains}\n"
            f"  route_list = * {facts.host}::{facts.port}\n  transport = certmaild_partner_smtp\n  no_more",
        ),
        Lines(
            "transports",
            "certmaild_partner_smtp:\n  driver = smtp\n  hosts_require_tls = *\n  tls_verify_hosts = *\n"
            f"  tls_verify_cert_hostnames = *\n  tls_verify_certificates = {authorities}\n"
            f"  tls_sni = {facts.host}{own}",
        ),
    ]
    proof = "!encrypted = *"
    words = "comes over TLS only"
    if record is not None and record.client is not None:
        proof, words = "!verify = certificate", "shows its certificate"
        steps.append(
            Lines(
                "main section (the file holds the authority of the certificate that we show)",
                f"tls_try_verify_hosts = *\ntls_verify_certificates = /etc/exim4/{facts.host}-client-ca.pem",
            )
        )
    steps.append(
        Lines(
            "the ACL for MAIL (acl_smtp_mail)",
            f"deny\n  message = mail from {domains.replace(' : ', ', ')} {words}\n"
            f"  sender_domains = {domains}\n  {proof}",
        )
    )
    return Sheet("Exim", tuple(steps))


# Microsoft 365.


def microsoft(facts: OwnFacts, sources: Sequence[str], record: PartnerRecord | None) -> Sheet:
    """Connectors of Exchange Online, in PowerShell and by hand."""
    domains = ",".join(facts.domains)
    first = facts.domains[0]
    if facts.authority is None:
        proof, by_hand = (
            f"-TlsSettings DomainValidation -TlsDomain {facts.host}",
            "a certificate by a trusted certificate authority, and the subject name " + facts.host,
        )
    else:
        proof, by_hand = "-TlsSettings EncryptionOnly", "any digital certificate, self-signed ones too"
    route = "-UseMXRecord $true"
    inbound, restriction = _microsoft_inbound(facts, sources, record)
    steps = [
        Lines(
            "PowerShell (Connect-ExchangeOnline), for mail to us",
            f'New-OutboundConnector -Name "To {first} over TLS" -ConnectorType Partner -RecipientDomains {domains} '
            f"{route} {proof}\n"
            f'Validate-OutboundConnector -Identity "To {first} over TLS" -Recipients {facts.contact}',
        ),
        Lines("PowerShell, for mail from us", inbound),
        Lines(
            "or by hand, in the Exchange admin center: Mail flow, Connectors, Add a connector",
            f"From Office 365 to a partner organization: only for mail to {domains}; use the MX record;\n"
            f"always use TLS, {by_hand}.\n"
            f"From a partner organization to Office 365: by sender domain {domains}; reject mail not sent over TLS"
            f"{restriction}.",
        ),
    ]
    notes = []
    if facts.authority is not None:
        notes.append(
            "Microsoft 365 trusts public authorities only, and our certificate is by an authority of our own: so the "
            "connector encrypts, and does not prove who we are. Where our domain has TLSA records under DNSSEC, "
            "Exchange Online checks these of itself."
        )
    if facts.port != 25:
        notes.append(f"Microsoft 365 delivers to port 25 only, and this server listens on {facts.port}.")
    notes += _own_certificate("Microsoft 365", record)
    if notes:
        steps.append(Lines("note", "\n".join(notes)))
    return Sheet("Microsoft 365", tuple(steps))


def _microsoft_inbound(facts: OwnFacts, sources: Sequence[str], record: PartnerRecord | None) -> tuple[str, str]:
    """The command, and its restriction in the admin center's words."""
    domains = ",".join(facts.domains)
    words = (
        f'New-InboundConnector -Name "From {facts.domains[0]} over TLS" -ConnectorType Partner '
        f"-SenderDomains {domains} -RequireTls $true"
    )
    addresses = [one for one in sources if ip_address(one).version == 4]
    if record is not None and record.client is not None:
        name = client_name(record) or facts.host
        return (
            f"{words} -RestrictDomainsToCertificate $true -TlsSenderCertificateName {name}",
            f",\nand require that the subject name of the certificate is {name}",
        )
    if addresses and len(addresses) == len(sources):
        return (
            f"{words} -RestrictDomainsToIPAddresses $true -SenderIPAddresses {','.join(addresses)}",
            f",\nand reject mail not sent from {', '.join(addresses)}",
        )
    # It knows IPv4 only: a restriction would shut out what comes from elsewhere.
    return words, ""


def client_name(record: PartnerRecord) -> str | None:
    """The first name in the certificate that we show."""
    if record.client is None:
        return None
    names = certificate_names(read_certificates(record.client.certificate)[0])
    return names[0] if names else None


# Google Workspace.


def google(facts: OwnFacts, record: PartnerRecord | None) -> Sheet:
    """The setting *Secure transport (TLS) compliance*."""
    domains = ", ".join(facts.domains)
    checks = (
        "tick both checks: CA-signed certificate, and certificate host name"
        if facts.authority is None
        else "leave both checks off (CA-signed certificate, host name): our certificate is by an authority of our\n"
        "   own, which Google does not know; so mail is encrypted, and who we are is not proven"
    )
    text = (
        "1. admin.google.com: Apps, Google Workspace, Gmail, Compliance; choose the organizational unit.\n"
        "2. At Secure transport (TLS) compliance: Configure.\n"
        "3. Inbound and Outbound: both.\n"
        f"4. Use an address list; in it the domains {domains}.\n"
        f"5. For outbound mail: {checks}.\n"
        "6. Test TLS connection, then Save; it may take up to 24 hours to count."
    )
    note = (
        "Google tries a message that needs TLS once: if our server cannot be reached at that moment it goes back to "
        "its sender at once."
    )
    notes = "\n".join([note, *_own_certificate("Google", record)])
    return Sheet("Google Workspace", (Lines("the Admin console", text), Lines("note", notes)))


def _own_certificate(who: str, record: PartnerRecord | None) -> list[str]:
    """A large provider shows a certificate of its own, for all of its customers."""
    if record is None or not record.asks_certificate:
        return []
    return [
        f"{who} shows a certificate of its own, not yours: our record must not ask for yours "
        f"(certmaild partner set {record.domain} --no-certificate-in)."
    ]
