"""A real Postfix as the partner's server: delivers to port 25 with `smtp_tls_security_level = secure`."""

from clients_support import SENDER, make_mail, read_all
from daemon import Account, Daemon
from postfix_support import running_postfix


def test_postfix_delivers_over_verified_tls(daemon: Daemon, account: Account) -> None:
    with running_postfix(daemon) as postfix:
        for number in range(20):
            postfix.send(SENDER, make_mail(f"from Postfix {number}", to=account.address), account.address)
        assert "Verified TLS connection" in postfix.await_log("status=sent", 20)
    found = read_all(daemon, account)
    assert {one[one.index(b"Subject: ") :].split(b"\r\n")[0] for one in found} == {
        b"Subject: from Postfix %d" % number for number in range(20)
    }
