"""mbsync, fetchmail and getmail: what they fetch, and that the second run finds nothing to do."""

from collections.abc import Callable
from pathlib import Path

from clients_support import deliver, log_in, make_mail, read_all, run
from daemon import Account, Daemon

Find = Callable[[str], str]


def test_mbsync_both_ways_with_500_messages(daemon: Daemon, account: Account, program: Find, tmp_path: Path) -> None:
    mbsync = program("mbsync")
    deliver(daemon, account.address, *(make_mail(f"m{number}", to=account.address) for number in range(500)))
    (tmp_path / "mail").mkdir()
    (tmp_path / "mbsyncrc").write_text(
        f"""IMAPAccount certmaild
Host localhost
Port {daemon.ports["imaps"]}
User {account.address}
Pass {account.password}
SSLType IMAPS
SystemCertificates no
CertificateFile {daemon.ca_file}

IMAPStore far
Account certmaild

MaildirStore near
SubFolders Verbatim
Path {tmp_path}/mail/
Inbox {tmp_path}/mail/INBOX

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
SyncState *
"""
    )
    config = ("-c", str(tmp_path / "mbsyncrc"))
    run(mbsync, *config, "all", home=tmp_path, timeout_s=300)
    inbox = tmp_path / "mail" / "INBOX"
    found = list((inbox / "new").iterdir()) + list((inbox / "cur").iterdir())
    assert len(found) == 500
    state = (inbox / ".mbsyncstate").read_bytes()
    text = run(mbsync, *config, "-V", "all", home=tmp_path)
    assert (inbox / ".mbsyncstate").read_bytes() == state, text
    # Near to far: a new message, a flag and a removal.
    (inbox / "new" / "1.local.host").write_bytes(make_mail("from near", to=account.address).replace(b"\r\n", b"\n"))
    gone, seen, *_ = found
    gone.unlink()
    (inbox / "cur").mkdir(exist_ok=True)
    seen.rename(inbox / "cur" / (seen.name.split(":")[0] + ":2,S"))
    run(mbsync, *config, "all", home=tmp_path)
    contents = read_all(daemon, account)
    assert len(contents) == 500
    assert any(b"Subject: from near" in one for one in contents)
    with log_in(daemon, account) as imap:
        imap.select("INBOX", readonly=True)
        assert len(imap.search(None, "SEEN")[1][0].split()) == 1


def test_fetchmail_keeps_then_deletes(daemon: Daemon, account: Account, program: Find, tmp_path: Path) -> None:
    fetchmail = program("fetchmail")
    deliver(daemon, account.address, *(make_mail(f"f{number}", to=account.address) for number in range(5)))
    for protocol, port in (("pop3", daemon.ports["pop3s"]), ("imap", daemon.ports["imaps"])):
        box = tmp_path / f"{protocol}.mbox"
        rc = tmp_path / "fetchmailrc"
        rc.write_text(
            "set no bouncemail\n"
            f"poll localhost protocol {protocol} port {port} {'uidl' if protocol == 'pop3' else ''}\n"
            f'  user "{account.address}" password "{account.password}" ssl sslproto "TLS1.2+" sslcertck '
            f'sslcertfile "{daemon.ca_file}" mda "cat >> {box}"\n'
        )
        rc.chmod(0o600)
        ids = ("-f", str(rc), "-i", str(tmp_path / f"{protocol}.ids"), "--nodetach", "--pidfile", str(tmp_path / "pid"))
        run(fetchmail, *ids, "--keep", home=tmp_path)
        assert box.read_bytes().count(b"Subject: f") == 5
        run(fetchmail, *ids, "--keep", home=tmp_path, ok=(1,))
        assert box.read_bytes().count(b"Subject: f") == 5
    run(fetchmail, *ids, "--nokeep", "--all", home=tmp_path)
    assert read_all(daemon, account) == []
    run(fetchmail, *ids, "--nokeep", "--all", home=tmp_path, ok=(1,))


def test_getmail_keeps_then_deletes(daemon: Daemon, account: Account, program: Find, tmp_path: Path) -> None:
    getmail = program("getmail")
    deliver(daemon, account.address, *(make_mail(f"g{number}", to=account.address) for number in range(5)))
    for kind, port in (("SimplePOP3SSLRetriever", "pop3s"), ("SimpleIMAPSSLRetriever", "imaps")):
        box = tmp_path / f"{port}.mbox"
        rc = tmp_path / port
        options = "read_all = false\ndelete = {}\n"
        base = (
            f"[retriever]\ntype = {kind}\nserver = localhost\nport = {daemon.ports[port]}\n"
            f"username = {account.address}\npassword = {account.password}\nca_certs = {daemon.ca_file}\n"
            f"[destination]\ntype = MDA_external\npath = /bin/sh\narguments = ('-c', 'cat >> {box}')\n"
            "allow_root_commands = true\n[options]\n"
        )
        for delete in ("false", "false", "true"):
            rc.write_text(base + options.format(delete))
            run(getmail, "--getmaildir", str(tmp_path), "--rcfile", str(rc), home=tmp_path)
            assert box.read_bytes().count(b"Subject: g") == 5
        if port == "pop3s":
            assert read_all(daemon, account) == []
            deliver(daemon, account.address, *(make_mail(f"g{number}", to=account.address) for number in range(5)))
    assert read_all(daemon, account) == []
