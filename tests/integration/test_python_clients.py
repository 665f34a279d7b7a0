"""imaplib, poplib, smtplib and imapclient, certificates verified, against the real daemon."""

import poplib
import smtplib

import imapclient
import pytest
from clients_support import deliver, log_in, make_mail, read_all
from daemon import Account, Daemon


def test_delivered_mail_is_read_by_imap_and_pop3_with_the_same_octets(daemon: Daemon, account: Account) -> None:
    content = make_mail("both ways", to=account.address)
    deliver(daemon, account.address, content)
    (by_imap,) = read_all(daemon, account)
    pop = poplib.POP3_SSL("localhost", daemon.ports["pop3s"], context=daemon.tls_context(), timeout=60)
    pop.user(account.address)
    pop.pass_(account.password)
    _, lines, _ = pop.retr(1)
    pop.quit()
    assert by_imap == b"\r\n".join(lines) + b"\r\n"
    assert by_imap.endswith(content)


@pytest.mark.parametrize("implicit", [True, False])
def test_submission_reaches_another_member(daemon: Daemon, account: Account, implicit: bool) -> None:
    other = daemon.add_user(f"to-{account.address.split('@')[0]}-{implicit}".lower())
    if implicit:
        smtp = smtplib.SMTP_SSL("localhost", daemon.ports["submissions"], context=daemon.tls_context(), timeout=60)
    else:
        smtp = smtplib.SMTP("localhost", daemon.ports["submission"], timeout=60)
        smtp.starttls(context=daemon.tls_context())
    with smtp:
        smtp.login(account.address, account.password)
        smtp.sendmail(account.address, [other.address], f"From: {account.address}\r\nSubject: hi\r\n\r\nbody\r\n")
    (content,) = read_all(daemon, other)
    assert b"Subject: hi\r\n" in content
    assert b"Message-ID:" in content
    assert b"Date:" in content


def test_members_write_to_the_world_and_strangers_only_to_members(daemon: Daemon, account: Account) -> None:
    content = f"From: {account.address}\r\n\r\n"
    with smtplib.SMTP_SSL("localhost", daemon.ports["submissions"], context=daemon.tls_context(), timeout=60) as smtp:
        smtp.login(account.address, account.password)
        assert smtp.sendmail(account.address, ["x@elsewhere.example"], content) == {}
    with smtplib.SMTP("localhost", daemon.ports["smtp"], timeout=60) as smtp:
        smtp.starttls(context=daemon.tls_context())
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            smtp.sendmail("y@partner.example", ["x@elsewhere.example"], content)
    assert refused.value.recipients == {"x@elsewhere.example": (550, b"5.7.1 Relaying denied")}


def test_smtputf8_from_a_partner(daemon: Daemon, account: Account) -> None:
    with smtplib.SMTP("localhost", daemon.ports["smtp"], timeout=60) as smtp:
        smtp.starttls(context=daemon.tls_context())
        smtp.ehlo()
        content = (
            f"From: Jürg <jürg@bücher.example>\r\nTo: {account.address}\r\nSubject: Grüße\r\n\r\nstraße\r\n".encode()
        )
        smtp.sendmail("jürg@bücher.example", [account.address], content, ["SMTPUTF8", "BODY=8BITMIME"])
    (read,) = read_all(daemon, account)
    assert read.endswith(content)


def test_imapclient_idle_hears_of_a_delivery(daemon: Daemon, account: Account) -> None:
    with imapclient.IMAPClient("localhost", daemon.ports["imaps"], ssl_context=daemon.tls_context()) as client:
        client.login(account.address, account.password)
        assert client.select_folder("INBOX")[b"EXISTS"] == 0
        client.idle()
        deliver(daemon, account.address, make_mail("while idle", to=account.address))
        assert (1, b"EXISTS") in client.idle_check(timeout=20)
        client.idle_done()
        envelope = client.fetch([1], ["ENVELOPE"])[1][b"ENVELOPE"]
        assert envelope.subject == b"while idle"


def test_flags_move_and_expunge(daemon: Daemon, account: Account) -> None:
    deliver(daemon, account.address, *(make_mail(f"n{number}", to=account.address) for number in range(3)))
    with log_in(daemon, account) as imap:
        imap.select("INBOX")
        assert imap.store("1", "+FLAGS", "(\\Seen $Work)")[0] == "OK"
        assert imap.search(None, "KEYWORD", "$Work")[1] == [b"1"]
        assert imap.uid("MOVE", "2", "Archive")[0] == "OK"
        imap.store("1", "+FLAGS", "\\Deleted")
        imap.expunge()
        assert imap.select("INBOX")[1] == [b"1"]
        assert imap.select("Archive")[1] == [b"1"]


def test_wrong_password_is_one_text_for_known_and_unknown(daemon: Daemon, account: Account) -> None:
    texts = []
    for user in (account.address, "nobody@example.com"):
        imap = imapclient.IMAPClient("localhost", daemon.ports["imaps"], ssl_context=daemon.tls_context())
        with pytest.raises(imapclient.exceptions.LoginError) as refused:
            imap.login(user, "wrong password")
        texts.append(str(refused.value))
        imap.shutdown()
    assert texts[0] == texts[1]
    assert "AUTHENTICATIONFAILED" in texts[0]
