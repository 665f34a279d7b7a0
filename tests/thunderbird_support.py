"""Thunderbird under Xvfb, driven through Marionette, Mozilla's own remote protocol (length:JSON over TCP)."""

import base64
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from daemon import Account, Daemon, free_ports

START_TIME_S = 120
OPTIONS = ("--marionette", "--remote-allow-system-access", "--no-remote")
PREFERENCES = {
    "app.update.auto": False,
    "browser.cache.disk.enable": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "mail.provider.suppress_dialog_on_startup": True,
    "mail.rights.version": 1,
    "mail.shell.checkDefaultClient": False,
    "mail.spotlight.firstRunDone": True,
    "mail.winsearch.firstRunDone": True,
    "mailnews.start_page.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.enabled": False,
    "app.donation.eoy.version.viewed": 999,
    "mailnews.oauth.useExternalBrowser": False,
    "datareporting.healthreport.uploadEnabled": False,
    "extensions.getAddons.cache.enabled": False,
}

SET_UP = """
let [ca, kind, host, port, smtpPort, user, password, done] = arguments;
(async () => {
  const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
  Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB).addCertFromBase64(ca, "CTu,CTu,CTu");
  let server = MailServices.accounts.createIncomingServer(user, host, kind);
  server.port = port;
  server.socketType = 3;
  server.authMethod = 3;
  server.password = password;
  server.loginAtStartUp = false;
  server.doBiff = false;
  let login = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
  let add = async (scheme) => {
    let info = new login.constructor === undefined ? login : Cc["@mozilla.org/login-manager/loginInfo;1"]
      .createInstance(Ci.nsILoginInfo);
    info.init(scheme + "://" + host, null, scheme + "://" + host, user, password, "", "");
    await Services.logins.addLoginAsync(info);
  };
  await add(kind == "imap" ? "imap" : "mailbox");
  await add("smtp");
  let outgoing = MailServices.outgoingServer.createServer("smtp");
  let smtp = outgoing.QueryInterface(Ci.nsISmtpServer);
  smtp.hostname = host;
  smtp.port = smtpPort;
  outgoing.socketType = 3;
  outgoing.authMethod = 3;
  outgoing.username = user;
  let identity = MailServices.accounts.createIdentity();
  identity.email = user;
  identity.fullName = "Ann Example";
  identity.smtpServerKey = outgoing.key;
  identity.composeHtml = false;
  let account = MailServices.accounts.createAccount();
  account.addIdentity(identity);
  account.incomingServer = server;
  MailServices.accounts.defaultAccount = account;
  done({ server: server.key, identity: identity.key, account: account.key });
})().catch((error) => done({ error: String(error) + error.stack }));
"""

GET_MESSAGES = """
let [serverKey, wanted, done] = arguments;
(async () => {
  const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
  let server = MailServices.accounts.getIncomingServer(serverKey);
  let listener = {
    OnStartRunningUrl() {}, OnStopRunningUrl() {}, QueryInterface: ChromeUtils.generateQI(["nsIUrlListener"]),
  };
  let inbox = null;
  for (let turn = 0; turn < 300; turn++) {
    if (turn % 20 == 0) {
      if (server.type == "imap") {
        server.performExpand(window.msgWindow || null);
        inbox = server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox);
        if (inbox) { inbox.updateFolder(window.msgWindow || null); }
      } else {
        inbox = server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox);
        let popServer = server.QueryInterface(Ci.nsIPop3IncomingServer);
        MailServices.pop3.GetNewMail(window.msgWindow || null, listener, inbox, popServer);
      }
    }
    await new Promise((go) => window.setTimeout(go, 200));
    if (inbox && inbox.getTotalMessages(false) >= wanted) { break; }
  }
  let subjects = inbox ? Array.from(inbox.messages, (one) => one.mime2DecodedSubject) : [];
  done({ subjects });
})().catch((error) => done({ error: String(error) + error.stack }));
"""

SHOW = """
let [serverKey, done] = arguments;
(async () => {
  const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
  let server = MailServices.accounts.getIncomingServer(serverKey);
  let inbox = server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox);
  let tabmail = document.getElementById("tabmail");
  tabmail.currentAbout3Pane.displayFolder(inbox.URI);
  await new Promise((go) => window.setTimeout(go, 1500));
  tabmail.currentAbout3Pane.threadTree.selectedIndex = 0;
  await new Promise((go) => window.setTimeout(go, 3000));
  let body = tabmail.currentAboutMessage?.getMessagePaneBrowser()?.contentDocument?.body?.textContent;
  done({ body: body || "" });
})().catch((error) => done({ error: String(error) + error.stack }));
"""

SEND = """
let [identityKey, accountKey, to, subject, body, done] = arguments;
(async () => {
  const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
  let identity = MailServices.accounts.getIdentity(identityKey);
  let fields = Cc["@mozilla.org/messengercompose/composefields;1"].createInstance(Ci.nsIMsgCompFields);
  fields.from = identity.email; fields.to = to; fields.subject = subject; fields.body = body;
  let parameters = Cc["@mozilla.org/messengercompose/composeparams;1"].createInstance(Ci.nsIMsgComposeParams);
  parameters.composeFields = fields; parameters.identity = identity; parameters.format = Ci.nsIMsgCompFormat.PlainText;
  let path = PathUtils.join(PathUtils.tempDir, "certmaild-send.eml");
  await IOUtils.writeUTF8(path, `From: ${identity.email}\\r\\nTo: ${to}\\r\\nSubject: ${subject}\\r\\n`
    + `Date: ${new Date().toUTCString()}\\r\\nMessage-ID: <${Date.now()}@thunderbird.test>\\r\\n\\r\\n${body}\\r\\n`);
  let file = Cc["@mozilla.org/file/local;1"].createInstance(Ci.nsIFile);
  file.initWithPath(path);
  let ended = new Promise((go) => {
    let listener = {
      onStartSending() {}, onProgress() {}, onStatus() {}, onGetDraftFolderURI() {},
      onSendNotPerformed() { go("not sent"); },
      onTransportSecurityError(id, status, info, place) { go("security " + status + " " + place); },
      onStopSending(id, status, text) { go(status == 0 ? "" : "status " + status + " " + text); },
      QueryInterface: ChromeUtils.generateQI(["nsIMsgSendListener"]),
    };
    let send = Cc["@mozilla.org/messengercompose/send;1"].createInstance(Ci.nsIMsgSend);
    let now = Ci.nsIMsgSend.nsMsgDeliverNow;
    send.sendMessageFile(identity, accountKey, fields, file, false, false, now, null, listener, null, null);
  });
  done({ failed: await ended });
})().catch((error) => done({ error: String(error) + error.stack }));
"""


class Thunderbird:
    """One running Thunderbird with an empty profile."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=180)
        self.stream = self.sock.makefile("rb")
        self.number = 0
        self._read()
        self.ask("WebDriver:NewSession", {"capabilities": {"alwaysMatch": {"timeouts": {"script": 120000}}}})
        self.ask("Marionette:SetContext", {"value": "chrome"})

    def _read(self) -> list[object]:
        length = b""
        while (octet := self.stream.read(1)) != b":":
            if not octet:
                raise ConnectionError("Thunderbird is gone")
            length += octet
        answer: list[object] = json.loads(self.stream.read(int(length)))
        return answer

    def ask(self, command: str, parameters: dict[str, object]) -> dict[str, object]:
        """Run one Marionette command."""
        self.number += 1
        text = json.dumps([0, self.number, command, parameters]).encode()
        self.sock.sendall(str(len(text)).encode() + b":" + text)
        _, _, error, value = self._read()
        if error:
            raise RuntimeError(f"{command}: {error}")
        return value if isinstance(value, dict) else {}

    def run(self, script: str, *arguments: object) -> dict[str, object]:
        """Run an asynchronous script in Thunderbird's own context and return what it gives to `done`."""
        answer = self.ask(
            "WebDriver:ExecuteAsyncScript", {"script": script, "args": list(arguments), "newSandbox": True}
        )
        value = answer["value"]
        assert isinstance(value, dict), value
        if "error" in value:
            raise RuntimeError(str(value["error"]))
        return value

    def set_up(self, daemon: Daemon, account: Account, kind: str) -> dict[str, object]:
        """Add the account by ``imap`` or ``pop3`` with submission over implicit TLS; keys of what was made."""
        pem = daemon.ca_file.read_text()
        ca = "".join(line for line in pem.splitlines() if "CERTIFICATE" not in line)
        port = daemon.ports["imaps" if kind == "imap" else "pop3s"]
        return self.run(
            SET_UP, ca, kind, "localhost", port, daemon.ports["submissions"], account.address, account.password
        )

    def screenshot(self, path: Path) -> None:
        """The main window as PNG."""
        answer = self.ask("WebDriver:TakeScreenshot", {"full": False})
        path.write_bytes(base64.b64decode(str(answer["value"])))


@contextmanager
def running_thunderbird(folder: Path, wrapper: Sequence[str] = ()) -> Iterator[Thunderbird]:
    """Start Xvfb and Thunderbird with a profile in ``folder``; ``wrapper`` are words before its command."""
    profile = folder / "profile"
    profile.mkdir(parents=True)
    (port,) = free_ports(1)
    preferences = {**PREFERENCES, "marionette.port": port}
    (profile / "user.js").write_text(
        "".join(f'user_pref("{name}", {json.dumps(value)});\n' for name, value in preferences.items())
    )
    environment = {**os.environ, "HOME": str(folder), "MOZ_DISABLE_CONTENT_SANDBOX": "1", "TMPDIR": str(folder)}
    read_end, write_end = os.pipe()
    xvfb = subprocess.Popen(
        [
            shutil.which("Xvfb") or "Xvfb",
            "-displayfd",
            str(write_end),
            "-screen",
            "0",
            "1280x860x24",
            "-nolisten",
            "tcp",
        ],
        pass_fds=(write_end,),
        stderr=subprocess.DEVNULL,
    )
    os.close(write_end)
    with os.fdopen(read_end) as told:
        display = told.readline().strip()
    environment["DISPLAY"] = f":{display}"
    with (folder / "thunderbird.log").open("wb") as log:
        process = subprocess.Popen(
            [*wrapper, "thunderbird", *OPTIONS, "--profile", str(profile)],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + START_TIME_S
        while True:
            try:
                client = Thunderbird(port)
                break
            except ConnectionRefusedError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError((folder / "thunderbird.log").read_text()[-3000:]) from None
                time.sleep(0.2)  # it gives no other sign that its port is open
        yield client
    finally:
        process.kill()
        process.wait(30)
        xvfb.kill()
        xvfb.wait(30)
