"""Trial by mail, beside the real daemon: from a message to `try@` to the sealed answer in a mail program, and its end.

A real resolver has the SPF record of the ordinary domain, a real Postfix takes what is sent there.
"""

import random
import signal
import smtplib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest
from daemon import Daemon
from dns_support import DnsNetwork
from enrol import URI, Idle, is_let_in, own_password
from guest_world import Post
from person import PICKUP_CODE, Person, reply_to, text_of
from postfix import why_not
from server import Account
from sink import Sink

pytestmark = pytest.mark.integration
ORDINARY, UNPROVEN = "ordinary.example", "unproven.example"
BOB = f"bob@{ORDINARY}"
PATIENCE_S = 30
TABLES = """
[invite]
domain = "guest.example.com"
when = "always"
trial_days = 30
[inbound]
unchecked_networks = []
[outbound]
loopback = true
retry = "1s"
longest_retry = "2s"
level = "verify"
[resolver]
addresses = ["{resolver}"]
"""


@dataclass
class Trying:
    daemon: Daemon
    post: Post
    member: Person

    def ask(self, sender: str, *, author: str = "", **fields: str) -> str:
        """Write to `try@` from another server; how that ends."""
        message = EmailMessage(SMTP)
        message["From"], message["To"] = author or sender, "try@example.com"
        for name, value in {"Message-ID": "<1@ordinary.example>", "Subject": "let me try", **fields}.items():
            message[name] = value
        message.set_content("SECRET-OF-MINE\n" * 30_000)
        with smtplib.SMTP("localhost", self.daemon.ports["smtp"], timeout=PATIENCE_S) as smtp:
            smtp.starttls(context=self.daemon.tls_context())
            try:
                smtp.sendmail(sender, ["try@example.com"], message.as_bytes())
            except smtplib.SMTPResponseException as refused:
                return f"{refused.smtp_code} {refused.smtp_error.decode()}"
            except smtplib.SMTPRecipientsRefused as refused:
                ((code, words),) = refused.recipients.values()
                return f"{code} {words.decode()}"
        return "taken"

    def set_level(self, old: str, new: str) -> None:
        """Have the daemon go by another level."""
        config = self.daemon.config
        config.write_text(config.read_text().replace(f'level = "{old}"', f'level = "{new}"'))
        self.daemon.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def trying() -> Iterator[Trying]:
    if reason := why_not():
        pytest.skip(reason)
    address = f"127.{random.randrange(16, 250)}.{random.randrange(250)}.{random.randrange(1, 250)}"
    own = ("virtual_mailbox_domains = static:all", "virtual_mailbox_maps = static:all/")
    spf = {ORDINARY: "v=spf1 ip4:127.0.0.1 -all", UNPROVEN: "v=spf1 ip4:192.0.2.1 -all"}
    zones = {name: f'@ MX 10 mail\nmail A {address}\n@ TXT "{text}"' for name, text in spf.items()}
    # A short name: Postfix's sockets lie below.
    with (
        tempfile.TemporaryDirectory(prefix="trial", dir="/tmp") as folder,
        Sink(Path(folder) / "sink", settings=own, port=25, address=address) as sink,
        DnsNetwork(Path(folder), zones) as dns,
        Daemon(Path(folder) / "certmaild", tables=TABLES.format(resolver=dns.resolver)) as daemon,
    ):
        yield Trying(daemon, Post(sink), Person(daemon, daemon.add_user("ann")))


def test_from_a_message_to_a_sealed_answer_and_to_an_invitation(trying: Trying) -> None:
    assert trying.ask(BOB) == "taken"
    (notice,) = trying.post.wait_for(BOB)
    assert notice["From"] == "certmaild <try@example.com>" and notice["In-Reply-To"] == "<1@ordinary.example>"
    account = next(line.split()[-1] for line in text_of(notice).splitlines() if "E-mail address:" in line)
    assert account == "bob.ordinary.example@guest.example.com"
    # That server's certificate is nobody's: the notice went, the code waits until the operator allows it.
    give_up = time.monotonic() + PATIENCE_S
    while "certificate" not in (shown := trying.daemon.command("queue", "list", "--json")).lower():
        assert time.monotonic() < give_up, shown
        time.sleep(0.1)
    assert len(trying.post.received(BOB)) == 1
    trying.set_level("verify", "encrypt")
    letters = trying.post.wait_for(BOB, 2)
    (code,) = [found[0] for one in letters if (found := PICKUP_CODE.findall(text_of(one)))]
    assert all(URI.search(text_of(one)) is None and one["Auto-Submitted"] == "auto-replied" for one in letters)

    guest = Person(trying.daemon, Account(account, code))
    welcome = guest.wait_for(lambda one: str(one["Subject"]).startswith("Welcome: this message was sealed"))
    assert welcome["From"] == "certmaild <try@example.com>"
    guest = guest.with_password(own_password(guest))
    guest.messages_by_pop3()
    guest.submit("try@example.com", body="This is my reply.\n", **reply_to(welcome))
    answer = guest.wait_for(lambda one: "> This is my reply." in text_of(one))
    assert "on trial until" in " ".join(text_of(answer).split())
    guest.submit("devices@example.com", Subject="add phone")
    guest.wait_for(lambda one: "phone" in text_of(one) and one["From"] == "certmaild <devices@example.com>")
    for to in (trying.member.address, f"eve@{ORDINARY}", "nobody@example.com", "x@guest.example.com"):
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            guest.submit(to)
        ((number, words),) = refused.value.recipients.values()
        assert (number, words[:45]) == (550, b"5.7.1 A mailbox on trial writes to this serve")

    assert trying.ask(BOB) == "taken"
    stored = b"".join(path.read_bytes() for path in trying.daemon.data.rglob("*") if path.is_file())
    log = trying.daemon.log.read_bytes()
    for secret in (b"SECRET-OF-MINE", code.encode()):
        assert secret not in stored and secret not in log
    assert "trial" in trying.daemon.command("guest", "show", BOB)

    # A member's message is not sealed to a mailbox whose code went by ordinary mail.
    idle = Idle(guest)
    trying.member.submit(BOB, Subject="Your results")
    idle.await_end()
    pickup = trying.member.wait_for(lambda one: one["Certmaild-Invite"] == BOB)
    assert account not in text_of(pickup) and "bob.ordinary.example-" in text_of(pickup)
    assert not is_let_in(guest)
    assert [one["Subject"] for one in trying.post.wait_for(BOB, 3)][2:] == ["A sealed message is waiting for you"]


def test_who_does_not_prove_himself_gets_nothing(trying: Trying) -> None:
    before = len(trying.post.everything())
    refused = "550 5.7.1 A mailbox to try is given to who writes from an address that proves itself"
    assert trying.ask(f"eve@{UNPROVEN}").startswith(refused)
    assert trying.ask(f"eve@{ORDINARY}", author=f"joe@{UNPROVEN}").startswith(refused)
    assert trying.ask("eve@nowhere.example").startswith(refused)
    for automatic in ({"Auto-Submitted": "auto-replied"}, {"List-Id": "<a.ordinary.example>"}):
        assert trying.ask(f"eve@{ORDINARY}", **automatic).startswith("550 5.7.1 Automatic messages")
    assert trying.ask("").startswith("550 5.7.1 Automatic messages")
    assert trying.ask("joe@example.com").startswith("550 5.7.1 You have a mailbox here")
    assert "eve@" not in trying.daemon.command("guest", "list")
    assert len(trying.post.everything()) == before
