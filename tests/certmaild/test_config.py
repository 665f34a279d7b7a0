"""The configuration file: what it may hold, what it comes to, and what is said about mistakes."""

from dataclasses import fields
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import pytest

from certmaild import config, config_check
from certmaild.config import ConfigError
from certmaild.keystore import certificates
from certmaild.keystore.tls_values import Level, Pem
from certmaild.protocols.limits import GIB, MIB, Limits

ISSUE_EXAMPLE = """
hostname = "mail.example.com"
domains = ["example.com"]
data = "/var/lib/certmaild"
workers = 0
[listen]
address = ["127.0.0.1", "::1"]
imaps = 993
pop3s = 995
smtp = 25
submission = 587
submissions = 465
[tls]
certificate = "fullchain.pem"
key = "privkey.pem"
minimum = "1.2"
[limits]
message_size = "3GiB"
[passwords]
kdf = "bcrypt"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "certmaild.toml"


def loaded(path: Path, text: str) -> config.Config:
    path.write_text(text, encoding="utf-8")
    return config.load(path)


def refused(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert all(sentence.startswith(str(path)) for sentence in caught.value.sentences)
    return str(caught.value).replace(f"{path}: ", "")


def test_default_needs_no_root_and_no_file(tmp_path: Path) -> None:
    own = config.default(tmp_path / "data")
    assert own.path is None
    assert (own.hostname, own.domains) == ("localhost", ("localhost",))
    assert own.listen.address == ("127.0.0.1",)
    assert own.listen.ports() == {"imaps": 1993, "pop3s": 1995, "smtp": 1025, "submission": 1587, "submissions": 1465}
    assert own.data == tmp_path / "data"
    assert own.secrets == own.data / "secrets"
    assert own.store == own.data / "store"
    assert own.tls.private
    assert own.tls.default.certificate == own.data / "tls" / "chain.pem"
    assert (own.free_disk, own.shutdown_time, own.privacy, own.padding) == (256 * MIB, 30, True, True)
    assert config_check.check(own).problems == ()


def test_default_data_directory_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.default().data == tmp_path / "certmaild-data"


def test_the_example(path: Path) -> None:
    own = loaded(path, ISSUE_EXAMPLE)
    assert own.listen.ports() == {"imaps": 993, "pop3s": 995, "smtp": 25, "submission": 587, "submissions": 465}
    assert own.data == Path("/var/lib/certmaild")
    assert own.tls.default.certificate == path.parent / "fullchain.pem"
    assert own.tls.default.key == path.parent / "privkey.pem"
    assert not own.tls.private
    assert own.limits == Limits(message_size=3 * GIB)
    assert own.passwords == config.Passwords()
    assert own.search == config.Search(ahead=False)


def test_everything_that_can_be_set(path: Path) -> None:
    own = loaded(
        path,
        """
        hostname = "Mail.Example.COM."
        domains = ["Example.com", "bücher.example", "example.com"]
        data = "var"
        secrets = "../elsewhere"
        workers = 2
        postmaster = "ann@example.com"
        privacy = false
        padding = false
        free_disk = 0
        shutdown_time = "1m"
        [listen]
        address = ["::1"]
        smtp = "systemd:smtp"
        [tls]
        certificate = "a.pem"
        key = "b.pem"
        minimum = "1.3"
        strict_names = true
        [[tls.names]]
        name = "Mail.Example.ORG"
        certificate = "c.pem"
        key = "/d.pem"
        [[tls.names]]
        name = "*.example.net"
        certificate = "e.pem"
        key = "f.pem"
        [inbound]
        tls = "offered"
        clear_networks = ["192.0.2.0/24", "2001:db8::/32", "127.0.0.1"]
        [passwords]
        rounds = 64
        login_cache = false
        [search]
        ahead = true
        """,
    )
    here = path.parent
    assert own.hostname == "mail.example.com"
    assert own.domains == ("example.com", "xn--bcher-kva.example")
    assert (own.data, own.secrets.resolve()) == (here / "var", (here / "../elsewhere").resolve())
    assert (own.workers, own.postmaster, own.privacy, own.padding) == (2, "ann@example.com", False, False)
    assert (own.free_disk, own.shutdown_time) == (0, 60)
    assert own.listen.ports() == {"smtp": "systemd:smtp"}
    assert (own.tls.minimum, own.tls.strict_names) == ("1.3", True)
    assert [(one.name, one.certificate, one.key) for one in own.tls.names] == [
        ("mail.example.org", here / "c.pem", Path("/d.pem")),
        ("*.example.net", here / "e.pem", here / "f.pem"),
    ]
    assert not own.inbound.tls_required
    assert own.inbound.clear_networks == tuple(map(ip_network, ("192.0.2.0/24", "2001:db8::/32", "127.0.0.1/32")))
    assert own.passwords == config.Passwords("bcrypt", 64, False)
    assert own.search == config.Search(ahead=True)


def test_data_on_the_command_line_wins(path: Path, tmp_path: Path) -> None:
    path.write_text('data = "x"\n')
    own = config.load(path, tmp_path / "y")
    assert (own.data, own.secrets) == (tmp_path / "y", tmp_path / "y" / "secrets")


@pytest.mark.parametrize("name", [limit.name for limit in fields(Limits)])
def test_every_limit_is_a_setting(path: Path, name: str) -> None:
    assert getattr(loaded(path, f"[limits]\n{name} = 7\n").limits, name) == 7
    assert "at least 1" in refused(path, f"[limits]\n{name} = 0\n")
    assert f"limits.{name}" in refused(path, f"[limits]\n{name} = true\n")
    assert f"limits.{name}" in refused(path, f"[limits]\n{name} = 1.5\n")


@pytest.mark.parametrize(
    ("given", "octets"),
    [("3GiB", 3 * GIB), ("150 MiB", 150 * MIB), ("10MB", 10**7), ("8K", 8192), ("1kib", 1024), ("77", 77), ("5B", 5)],
)
def test_sizes(path: Path, given: str, octets: int) -> None:
    assert loaded(path, f'[limits]\nmessage_size = "{given}"\n').limits.message_size == octets


@pytest.mark.parametrize(
    ("given", "seconds"), [("30s", 30), ("5m", 300), ("5 min", 300), ("2h", 7200), ("1d", 86400), ("9", 9)]
)
def test_times(path: Path, given: str, seconds: int) -> None:
    assert loaded(path, f'[limits]\nimap_idle_time = "{given}"\n').limits.imap_idle_time == seconds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[limits]\nmesage_size = 3", "the key limits.mesage_size is not known; did you mean message_size?"),
        ("colour = 1", "the key colour is not known."),
        ('[[tls.names]]\nnam = "x"', "the key tls.names[0].nam is not known; did you mean name?"),
        ("hostname = 3", "the key hostname: expected a text in quotes, got a whole number."),
        ('workers = "a"', "the key workers: expected a whole number, got a text in quotes."),
        ("privacy = 1", "the key privacy: expected true or false, got a whole number."),
        ("domains = [3]", "the key domains[0]: expected a text in quotes, got a whole number."),
        ('domains = "x"', "the key domains: expected a list in brackets, got a text in quotes."),
        ("listen = 3", "the key listen: expected a table, got a whole number."),
        ('[tls]\nminimum = "1.1"', 'the key tls.minimum: expected "1.2" or "1.3".'),
        ('[inbound]\ntls = "never"', 'the key inbound.tls: expected "required" or "offered".'),
        ('[passwords]\nkdf = "md5"', 'the key passwords.kdf: expected "bcrypt".'),
        ("[passwords]\nrounds = 3", "the key passwords.rounds: expected 64 to 512."),
        ('[limits]\nmessage_size = "3 apples"', 'expected a size, such as 1048576 or "150MiB".'),
        ('[limits]\ntime_to_log_in = "5 weeks"', 'expected a time, such as 30 or "5m".'),
        ("free_disk = -1", "the key free_disk: expected a size"),
        ("workers = -1", "the key workers: expected 0 to 256."),
        ('[relays]\nprograms = [" "]', "the key relays.programs: expected how programs begin to name themselves"),
        ('[relays]\ndomains = { "other.example" = "refuse" }', "the key relays.domains: expected domains that have"),
        ("[listen]\nimaps = 70000", "the key listen.imaps: expected a port from 1 to 65535"),
        ('[listen]\nimaps = "x"', "the key listen.imaps: expected a port from 1 to 65535"),
        ("[listen]\nimaps = true", "the key listen.imaps: expected a port"),
        ("[listen]\nimaps = 99\npop3s = 99", "the key listen: two listeners have the same port."),
        ('[listen]\naddress = ["localhost"]', "the key listen.address: expected IP addresses, found 'localhost'."),
        ('[tls]\ncertificate = "x"', "the key tls: certificate and key are given together or not at all."),
        ('[[tls.names]]\nname = "x"', "the key tls.names[0].certificate is missing."),
        ('[inbound]\nclear_networks = ["10.0.0.1/8"]', "the key inbound.clear_networks: expected networks"),
        ("domains = []", "the key domains: expected at least one domain."),
        ('domains = ["a b"]', "the key domains: expected a host name, found 'a b'."),
        ("[invite]\ntrial_days = 30", "the key invite.trial_days: trials need invite.domain"),
        ('[invite]\ndomain = "g.example"\ntrial_days = 366', "the key invite.trial_days: expected 0 (no"),
        ('[invite]\ndomain = "g.example"\ntrials_per_day = 0', "the key invite.trials_per_day: expected at least 1"),
        (
            '[invite]\ndomain = "g.example"\ntrial_days = 30\n[inbound]\nchecks = false',
            "the key invite.trial_days: trials need inbound.checks",
        ),
        ('[[invite.domains]]\ndomain = "b.example"', "the key invite.domains: expected invite.domain too"),
        (
            '[invite]\ndomain = "g.example"\n[[invite.domains]]\ndomain = "b.example"\nrole = "member"',
            'the key invite.domains.role: "member" is for domains that are hosted here',
        ),
        (
            '[invite]\ndomain = "g.example"\n[[invite.domains]]\ndomain = "g.example"',
            "the key invite.domains.domain: g.example is the guests' own",
        ),
        (
            '[invite]\ndomain = "g.example"\n[[invite.domains]]\ndomain = "b.example"\nsenders = ["ann"]',
            "the key invite.domains.senders: expected addresses, or domains",
        ),
        ('hostname = ""', "the key hostname: expected a host name, found ''."),
        ('postmaster = "ann"', "the key postmaster: expected an address of a member."),
        ('postmaster = "ann@elsewhere.net"', "the key postmaster: expected an address in one of the domains."),
        ('data = ""', "the key data: expected the path of a directory."),
        ('secrets = ""', "the key secrets: expected the path of a directory."),
        ("x =", "is not TOML"),
    ],
)
def test_mistakes_are_said_in_a_sentence(path: Path, text: str, said: str) -> None:
    assert said in refused(path, text + "\n")


def test_all_mistakes_of_meaning_are_said_at_once(path: Path) -> None:
    assert len(refused(path, 'hostname = "a b"\nworkers = -1\n[listen]\nimaps = 0\n').splitlines()) == 3


def test_a_file_that_cannot_be_read(path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file; certmaild --config FILE init makes one"):
        config.load(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        config.load(path)


def test_check_reads_certificates(path: Path) -> None:
    text = 'hostname = "a.example"\n[listen]\nimaps = 993\n[tls]\ncertificate = "tls/chain.pem"\nkey = "tls/key.pem"\n'
    own = loaded(path, text)
    assert "cannot be read" in config_check.check(own).problems[0]
    made = certificates.make_private(path.parent, ["a.example"])
    (own.store).mkdir(parents=True)
    (own.store / "data.mdb").touch()
    assert config_check.check(own) == config_check.Findings((), ())
    made.key.write_bytes(made.authority_key.read_bytes())
    assert "does not belong" in config_check.check(own).problems[0]


def test_check_says_that_invitations_without_a_domain_do_nothing(path: Path) -> None:
    assert any(
        "there are no guests" in one for one in config_check.check(loaded(path, '[invite]\nwhen = "always"\n')).warnings
    )
    assert not any("there are no guests" in one for one in config_check.check(loaded(path, "[invite]\n")).warnings)


def test_check_warns_of_a_name_that_is_missing(path: Path) -> None:
    certificates.make_private(path.parent, ["b.example"])
    text = 'hostname = "a.example"\n[listen]\nimaps = 993\n[tls]\ncertificate = "tls/chain.pem"\nkey = "tls/key.pem"\n'
    assert any("does not name a.example" in one for one in config_check.check(loaded(path, text)).warnings)


def test_check_names_what_mail_programs_look_for_and_no_certificate_has(path: Path) -> None:
    certificates.make_private(path.parent / "one", ["mail.a.example", "*.a.example", "*.b.example"])
    certificates.make_private(path.parent / "two", ["*.b.example"])
    files = [f'certificate = "{one}/tls/chain.pem"\nkey = "{one}/tls/key.pem"\n' for one in ("one", "two")]
    head = 'hostname = "mail.a.example"\ndomains = ["a.example", "b.example"]\n[listen]\nimaps = 993\n'

    def said(*tables: str, domain: str = "guest.a.example") -> list[str]:
        tables = (head, f'[invite]\ndomain = "{domain}"\n', *tables)
        return [one for one in config_check.check(loaded(path, "".join(tables))).warnings if "look for" in one]

    (lacking,) = said("[tls]\n" + files[0])
    assert "for imap.guest.a.example, pop.guest.a.example," in lacking
    assert "imap.a.example" not in lacking and "imap.b.example" not in lacking
    shown_for_b = '[[tls.names]]\nname = "imap.b.example"\n' + files[1]
    assert said("[tls]\n" + files[0], shown_for_b) == [lacking]
    shown_for_a = shown_for_b.replace("imap.b", "*.guest.a")
    assert said("[tls]\n" + files[0], shown_for_a) == [lacking], "a certificate of others is shown for it"
    assert said(domain="guest.b.example") == [], "our own authority's has them all"
    text = head + '[invite]\ndomain = "guest.a.example"\n'
    assert any("spares each guest" in one for one in config_check.check(loaded(path, text)).warnings)
    assert not any("spares each guest" in one for one in config_check.check(loaded(path, head)).warnings)


def test_check_sees_secrets_in_the_store_and_listeners_that_are_off(path: Path) -> None:
    problems = config_check.check(loaded(path, 'data = "d"\nsecrets = "d/store/secrets"\n')).problems
    assert any("no listener is on" in one for one in problems)
    assert any("inside the store" in one for one in problems)
    assert any(
        "the data directory itself" in one
        for one in config_check.check(loaded(path, 'data = "d"\nsecrets = "d"\n')).problems
    )


def test_keys_that_need_a_restart(path: Path) -> None:
    old = loaded(path, 'data = "d"\n[listen]\nimaps = 993\n')
    assert config_check.restart_keys(old, old) == []
    new = loaded(path, 'data = "e"\n[listen]\nimaps = 994\n[tls]\nminimum = "1.3"\n[limits]\nrecipients = 5\n')
    assert config_check.restart_keys(old, new) == ["data", "secrets", "listen.imaps"]
    taken = config_check.taken_over(old, new)
    assert config_check.restart_keys(old, taken) == []
    assert taken.tls.minimum == "1.3"
    assert taken.limits.recipients == 5
    assert taken.tls.default.certificate.is_relative_to(old.data)


# Other servers.


def test_partners_and_outbound_are_read(path: Path) -> None:
    config = loaded(
        path,
        """
        domains = ["example.com"]
        [outbound]
        level = "dane"
        smart_host = "smtp.example.net:587"
        retry = "2m"
        [resolver]
        addresses = ["127.0.0.1#5353", "::1"]
        [[partner]]
        domain = "Partner.Example"
        subdomains = true
        route = ["mx.partner.example:25", "[2001:db8::1]:2525"]
        level = "pin"
        pins = ["sha256//AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]
        networks = ["192.0.2.0/24"]
        ca = "partner-ca.pem"
        from = 2027-01-31
        """,
    )
    assert (config.outbound.level, config.outbound.smart_host, config.outbound.retry) == (
        Level.DANE,
        "smtp.example.net:587",
        120,
    )
    assert config.resolvers == ("127.0.0.1#5353", "::1")
    (record,) = config.partners
    assert record.domain == "partner.example"
    assert record.pins == (bytes(range(32)),)
    assert record.ca == path.parent / "partner-ca.pem"
    assert record.covers("a.partner.example") and not record.covers("apartner.example")
    assert not record.is_in_force(datetime(2027, 1, 30, 23, 59, tzinfo=UTC).timestamp())
    assert record.is_in_force(datetime(2027, 1, 31, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[outbound]\nlevel = "may"', "only for a partner"),
        ('[outbound]\nsmart_host = "a b"', "outbound.smart_host: expected host:port"),
        ('[outbound]\nsmart_host_user = "u"', "smart_host_user and smart_host_password_file are given together"),
        ("[outbound]\nretry = 0", "outbound.retry: expected at least 1"),
        ('[outbound]\nretry = "2h"', "outbound.longest_retry: expected at least as long as retry"),
        ('[resolver]\naddresses = ["dns.example"]', "resolver.addresses: expected IP addresses"),
        ('[resolver]\naddresses = ["127.0.0.1#0"]', "resolver.addresses: expected a port"),
        ('[[partner]]\nlevel = "may"', "domain is missing"),
        ('[[partner]]\ndomain = "a.example"\nlevel = "none"', '"may", "encrypt", "verify"'),
        ('[[partner]]\ndomain = "a.example"\nlevel = "pin"', "needs a key of his"),
        ('[[partner]]\ndomain = "a.example"\npins = ["abc"]', "expected the SHA-256 of a public key"),
        ('[[partner]]\ndomain = "a.example"\nroute = ["x:y"]', "route: expected host:port"),
        ('[[partner]]\ndomain = "a.example"\nclient_key = "k"', "given together or not at all"),
        ('[[partner]]\ndomain = "a.example"\nnetworks = ["x"]', "does not appear to be an IPv4 or IPv6 network"),
        ('[[partner]]\ndomain = "a.example"\nlevle = "may"', "did you mean level"),
        ('[[partner]]\ndomain = "a.example"\nfrom = "soon"', "from"),
        ('[[partner]]\ndomain = "a.example"\n[[partner]]\ndomain = "A.example"', "has a record already"),
    ],
)
def test_what_is_wrong_with_partners_and_outbound(path: Path, text: str, words: str) -> None:
    assert words in refused(path, text)


def test_authorities_of_a_partner_may_stand_in_the_file_itself(path: Path) -> None:
    text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    config = loaded(path, f'domains = ["example.com"]\n[[partner]]\ndomain = "partner.example"\nca = """\n{text}"""\n')
    assert config.partners[0].ca == Pem(text)


def test_files_of_partners_are_looked_at(path: Path, tmp_path: Path) -> None:
    own = loaded(path, '[[partner]]\ndomain = "a.example"\nca = "nothing.pem"\n')
    assert "partner a.example: the file" in config_check.check(own).problems[0]
    (tmp_path / "empty.pem").write_text("no certificate")
    keys = 'client_certificate = "empty.pem"\nclient_key = "empty.pem"\n'
    own = loaded(path, f'[[partner]]\ndomain = "a.example"\nca = "empty.pem"\n{keys}')
    problems = config_check.check(own).problems
    assert [one.startswith("partner a.example: ") for one in problems[:2]] == [True, True]
    text = '[outbound]\nsmart_host = "s.example"\nsmart_host_user = "u"\nsmart_host_password_file = "secret"\n'
    assert "password cannot be read" in config_check.check(loaded(path, text)).problems[0]
    for command, found in (("/nonexistent/sms", 1), ("sh", 0)):
        own = loaded(path, f'[invite]\ncode_command = ["{command}"]\n')
        assert len([one for one in config_check.check(own).problems if "code command" in one]) == found
