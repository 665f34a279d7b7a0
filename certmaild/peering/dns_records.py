"""The DNS records that a mail domain should publish: what each should say, and whether it does.

MX and addresses (RFC 5321 section 5), SPF (RFC 7208), DKIM (RFC 6376), DMARC (RFC 7489), TLSA (RFC 7672), MTA-STS
(RFC 8461), TLS-RPT (RFC 8460), SRV for mail programs (RFC 6186, RFC 8314).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from ipaddress import ip_address, ip_network

import dns.exception
import dns.rdata
import dns.reversename
from dns.rdataclass import IN
from dns.rdatatype import RdataType

from certmaild.client_setup.names import fetched_names, guessed_names
from certmaild.config_values import Config
from certmaild.dkim.key_files import KeyFiles, txt_strings
from certmaild.dns.values import Answer, DnsStatus, Lookup, host_text
from certmaild.own_facts import OwnFacts

TTL_S = 3600
STS_MAX_AGE_S = 604_800
_SRV = (("imaps", "_imaps"), ("pop3s", "_pop3s"), ("submissions", "_submissions"), ("submission", "_submission"))
Found = tuple[str, ...]
Texts = Callable[[Sequence[str]], tuple["State", str]]


class State(StrEnum):
    """How a record stands."""

    RIGHT = "right"
    MISSING = "missing"
    DIFFERS = "differs"
    UNKNOWN = "unknown"
    """DNS could not be asked."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One record that should be published."""

    name: str
    kind: RdataType
    value: str
    """As zone files write it; in angle brackets where only the operator knows it."""
    purpose: str
    judge: Texts | None = field(default=None, repr=False)
    """Of all records found there, as texts; without it the value itself must be among them."""
    must_be_secure: bool = False
    """It counts only where DNSSEC vouches for it."""
    in_zone: bool = True
    """It belongs into the domain's own zone."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A record and how it stands."""

    wanted: Wanted
    state: State
    found: Found
    note: str = ""


# What is wanted.


def wanted_records(config: Config, facts: OwnFacts) -> list[Wanted]:
    """For all domains that have addresses here, and the host itself."""
    records = _of_host(facts)
    pairs = KeyFiles(config.data).pairs()
    for domain in config.mail_domains:
        records += [_mx(domain, facts), _spf(domain, config, facts)]
        for pair in pairs:
            records += [
                _txt(name, text, "DKIM: the key that signs", _dkim(text)) for name, text in pair.records(domain)
            ]
        records += _of_policies(domain, config, facts)
        records += _of_services(domain, config)
        records += _of_clients(domain, config)
    return records


def _of_host(facts: OwnFacts) -> list[Wanted]:
    host, records = facts.host, []
    kinds = {4: RdataType.A, 6: RdataType.AAAA}
    for address in facts.sources:
        kind = kinds[ip_address(address).version]
        records.append(Wanted(host, kind, address, "where the server is"))
    if not records:
        any_address = "<the address of this server>"
        records.append(Wanted(host, RdataType.A, any_address, "where the server is", lambda _: (State.RIGHT, "")))
    for address in facts.sources:
        reverse = host_text(dns.reversename.from_address(address))
        purpose = "the name of the address; set by who rents it out"
        records.append(Wanted(reverse, RdataType.PTR, f"{host}.", purpose, in_zone=False))
    tlsa = f"_{facts.port}._tcp.{host}"
    pins = [(facts.pin, "DANE: the key in use")]
    pins += [] if facts.next_pin is None else [(facts.next_pin, "DANE: the key to come")]
    known = {f"3 1 1 {pin.hex()}" for pin, _ in pins}
    for pin, purpose in pins:
        value = f"3 1 1 {pin.hex()}"
        records.append(Wanted(tlsa, RdataType.TLSA, value, purpose, _tlsa(value, known), must_be_secure=True))
    return records


def _mx(domain: str, facts: OwnFacts) -> Wanted:
    host = f"{facts.host}."

    def judge(found: Sequence[str]) -> tuple[State, str]:
        hosts = {one.split()[1] for one in found}
        if hosts == {host}:
            return State.RIGHT, ""
        if host in hosts:
            return State.DIFFERS, "other servers than this one take mail too"
        return State.DIFFERS, "mail goes to another server"

    return Wanted(domain, RdataType.MX, f"10 {host}", "who takes mail for the domain", judge)


def _spf(domain: str, config: Config, facts: OwnFacts) -> Wanted:
    own = [f"ip{ip_address(one).version}:{one}" for one in facts.sources]
    smart = config.outbound.smart_host
    theirs = [] if smart is None else [f"a:{smart.rpartition(':')[0] or smart}"]
    text = " ".join(["v=spf1", "mx", *own, *theirs, "-all"])

    def judge(found: Sequence[str]) -> tuple[State, str]:
        texts = [one for one in found if one.lower().split(" ")[0] == "v=spf1"]
        if len(texts) != 1:
            return (State.MISSING, "") if not texts else (State.DIFFERS, "there is more than one, so none counts")
        return _judge_spf(texts[0].lower().split(), facts, theirs)

    return _txt(domain, text, "SPF: who sends for the domain", judge)


def _judge_spf(terms: Sequence[str], facts: OwnFacts, theirs: Sequence[str]) -> tuple[State, str]:
    bare = {term.removeprefix("+") for term in terms[1:]}
    if not bare & {"-all", "~all"}:
        return State.DIFFERS, "it does not end in -all: others may send in the domain's name"
    if any(one not in bare for one in theirs) and not any(term.startswith("include:") for term in bare):
        return State.DIFFERS, "the smart host is not in it"
    if not theirs and not bare & {"mx", f"a:{facts.host}"} and not _covers(bare, facts.sources):
        return State.DIFFERS, "this server is not in it"
    return State.RIGHT, ""


def _covers(terms: Iterable[str], addresses: Sequence[str]) -> bool:
    networks = []
    for term in terms:
        kind, _, network = term.partition(":")
        if kind in ("ip4", "ip6"):
            try:
                networks.append(ip_network(network, strict=False))
            except ValueError:
                continue
    return bool(addresses) and all(any(ip_address(one) in network for network in networks) for one in addresses)


def _of_policies(domain: str, config: Config, facts: OwnFacts) -> list[Wanted]:
    # A guests' domain has no postmaster.
    mailto = f"mailto:{facts.contact if domain == config.invite.domain else f'postmaster@{domain}'}"
    records = [
        _txt(f"_dmarc.{domain}", f"v=DMARC1; p=reject; rua={mailto}", "DMARC: what forged mail deserves", _judge_dmarc),
        _txt(
            f"_smtp._tls.{domain}",
            f"v=TLSRPTv1; rua={mailto}",
            "TLS-RPT: where others report failures of TLS to",
            lambda found: (State.RIGHT, "") if _tagged(found, "v=tlsrptv1") else (State.MISSING, ""),
        ),
    ]
    if facts.authority is None:
        text = f"v=STSv1; id={sts_id(facts)}"
        records.append(_txt(f"_mta-sts.{domain}", text, "MTA-STS: that there is a policy", _sts(text)))
    return records


def _judge_dmarc(found: Sequence[str]) -> tuple[State, str]:
    texts = _tagged(found, "v=dmarc1")
    if not texts:
        return State.MISSING, ""
    tags = {one.replace(" ", "") for one in texts[0].lower().split(";")}
    if tags & {"p=reject", "p=quarantine"}:
        return State.RIGHT, ""
    return State.DIFFERS, "it asks for nothing but reports: raise p to quarantine, then reject, when they look right"


def _tagged(found: Sequence[str], tag: str) -> list[str]:
    return [one for one in found if one.lower().replace(" ", "").split(";")[0] == tag]


def _sts(text: str) -> Texts:
    def judge(found: Sequence[str]) -> tuple[State, str]:
        texts = _tagged(found, "v=stsv1")
        if not texts:
            return State.MISSING, ""
        if texts[0].replace(" ", "").rstrip(";") == text.replace(" ", ""):
            return State.RIGHT, ""
        return State.DIFFERS, "others will not see that the policy is another one now"

    return judge


def _dkim(text: str) -> Texts:
    def judge(found: Sequence[str]) -> tuple[State, str]:
        ours = {one.replace(" ", "").rstrip(";") for one in found}
        return (State.RIGHT, "") if text.replace(" ", "") in ours else (State.DIFFERS, "it is not our key")

    return judge


def _tlsa(value: str, known: set[str]) -> Texts:
    def judge(found: Sequence[str]) -> tuple[State, str]:
        if value not in found:
            return State.DIFFERS, "this key is not among them"
        stale = [one for one in found if one.startswith("3 ") and one not in known]
        return (
            (State.RIGHT, f"also found {', '.join(stale)}, which is no key of ours: remove it")
            if stale
            else (
                State.RIGHT,
                "",
            )
        )

    return judge


def _of_services(domain: str, config: Config) -> list[Wanted]:
    """RFC 6186 section 3.4 and RFC 8314 section 5.1: implicit TLS before STARTTLS."""
    records = []
    for listener, label in _SRV:
        port = getattr(config.listen, listener)
        if isinstance(port, int):
            priority = 1 if listener == "submission" else 0
            value = f"{priority} 1 {port} {config.hostname}."
            records.append(Wanted(f"{label}._tcp.{domain}", RdataType.SRV, value, "for mail programs"))
    return records


def _of_clients(domain: str, config: Config) -> list[Wanted]:
    """The names that mail programs guess, and those that they fetch files from if we serve these ourselves."""
    guessed, fetched = guessed_names(domain), fetched_names(config, domain)
    purposes = dict.fromkeys(guessed, "what mail programs try when nothing else tells them the server")
    if config.listen.https is not None:
        purposes |= dict.fromkeys(fetched, "where mail programs and servers fetch files by HTTPS")
    alias = f"{config.hostname}."
    return [
        Wanted(name, RdataType.CNAME, alias, purpose) for name, purpose in purposes.items() if name != config.hostname
    ]


def _txt(name: str, text: str, purpose: str, judge: Texts) -> Wanted:
    return Wanted(name, RdataType.TXT, txt_strings(text), purpose, judge)


# MTA-STS.


def sts_policy(facts: OwnFacts) -> str:
    """The file ``https://mta-sts.DOMAIN/.well-known/mta-sts.txt`` (RFC 8461 section 3.2), CRLF line ends."""
    return f"version: STSv1\r\nmode: enforce\r\nmx: {facts.host}\r\nmax_age: {STS_MAX_AGE_S}\r\n"


def sts_id(facts: OwnFacts) -> str:
    """Another one for another policy."""
    return sha256(sts_policy(facts).encode()).hexdigest()[:20]


# Whether it is there.


async def check_records(lookup: Lookup, wanted: Sequence[Wanted], *, can_be_secure: bool = True) -> list[Checked]:
    """How each record stands now. ``can_be_secure``: whether the resolver's word on DNSSEC is believed."""
    return [await _look(lookup, one, can_be_secure) for one in wanted]


async def _look(lookup: Lookup, wanted: Wanted, can_be_secure: bool) -> Checked:
    checked = _checked(wanted, await lookup.ask(wanted.name, wanted.kind), can_be_secure)
    if wanted.kind is not RdataType.CNAME or checked.state is not State.MISSING:
        return checked
    # The addresses themselves do as well: it is right if they are those of the name that it should stand for.
    found, ours = await _addresses(lookup, wanted.name), await _addresses(lookup, wanted.value.removesuffix("."))
    if not found:
        return checked
    return Checked(wanted, State.RIGHT if found == ours else State.DIFFERS, tuple(sorted(found)))


async def _addresses(lookup: Lookup, name: str) -> set[str]:
    answers = [await lookup.ask(name, kind) for kind in (RdataType.A, RdataType.AAAA)]
    return {_text(one) for answer in answers for one in answer.records}


def _checked(wanted: Wanted, answer: Answer[dns.rdata.Rdata], can_be_secure: bool) -> Checked:
    if answer.failed:
        return Checked(wanted, State.UNKNOWN, (), answer.reason)
    if answer.status is not DnsStatus.FOUND:
        return Checked(wanted, State.MISSING, ())
    found = tuple(_text(one) for one in answer.records)
    if wanted.judge is not None:
        state, note = wanted.judge(found)
    else:
        state, note = (State.RIGHT if _normal(wanted) in found else State.DIFFERS), ""
    if wanted.must_be_secure and state is State.RIGHT and not answer.secure:
        if can_be_secure:
            return Checked(wanted, State.DIFFERS, found, "the zone is not signed with DNSSEC, so nobody goes by it")
        note = note or "whether DNSSEC vouches for it only a resolver on this machine can say"
    return Checked(wanted, state, found, note)


def _normal(wanted: Wanted) -> str:
    return _text(dns.rdata.from_text(IN, wanted.kind, wanted.value))


def _text(record: dns.rdata.Rdata) -> str:
    """As zone files write it, in lower case; TXT as its text."""
    strings = getattr(record, "strings", None)
    if strings is not None:
        return b"".join(strings).decode("utf-8", "replace")
    return record.to_text().lower()


def zone_lines(wanted: Iterable[Wanted]) -> list[str]:
    """A fragment of a zone file (RFC 1035 section 5); what only the operator knows is a comment."""
    lines, said = [], ""
    for one in wanted:
        if one.purpose != said:
            lines.append(f"; {one.purpose}")
            said = one.purpose
        is_open = one.value.startswith("<") or not one.in_zone
        lines.append(f"{'; ' if is_open else ''}{one.name}. {TTL_S} IN {one.kind.name} {one.value}")
    return lines
