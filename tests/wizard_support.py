"""Thunderbird's own way of adding an account (its Account Hub), gone as a person does: by typing and by clicking."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thunderbird_support import Thunderbird

PATIENCE_S = 90
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""How WebDriver names a reference to an element."""

TRUST = """
let [ca, done] = arguments;
Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB).addCertFromBase64(ca, "CTu,CTu,CTu");
openAccountHub("MAIL").then(() => done({}), (error) => done({ error: String(error) }));
"""

VISIBLE = """
let [done] = arguments;
let hub = document.querySelector("account-hub-container").modal.querySelector("account-hub-email");
let step = hub?.querySelector(".account-hub-step:not([hidden])");
let header = step?.shadowRoot?.querySelector("account-hub-header");
let notice = (header?.shadowRoot ?? header)?.querySelector("#emailFormNotification");
done({
  step: step?.id ?? "", busy: hub?.classList.contains("busy") ?? true,
  forward: !(hub?.querySelector("#forward")?.disabled ?? true),
  notice: (notice && !notice.hidden) ? notice.textContent.replace(/\\s+/g, " ").trim() : "",
});
"""

FIND = """
let [selector, done] = arguments;
let hub = document.querySelector("account-hub-container").modal.querySelector("account-hub-email");
done({ found: hub.querySelector(".account-hub-step:not([hidden]) " + selector) || hub.querySelector(selector) });
"""

FOUND = """
let [done] = arguments;
let hub = document.querySelector("account-hub-container").modal.querySelector("account-hub-email");
let text = (id) => hub.querySelector("#emailConfigFoundSubview #" + id)?.textContent ?? "";
let kinds = Array.from(hub.querySelectorAll("#protocolForm label:not([hidden])"), (one) => one.id);
done({
  kinds, incoming: [text("incomingHost"), text("incomingPort")], outgoing: [text("outgoingHost"), text("outgoingPort")],
});
"""

MADE = """
let [done] = arguments;
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
let account = MailServices.accounts.accounts.find((one) => ["imap", "pop3"].includes(one.incomingServer?.type));
let server = account.incomingServer;
let outgoing = MailServices.outgoingServer.getServerByKey(account.defaultIdentity.smtpServerKey);
done({
  account: account.key, server: server.key, identity: account.defaultIdentity.key, kind: server.type,
  security: server.socketType, user: server.username,
  outgoing_user: outgoing.username, outgoing_security: outgoing.socketType,
});
"""


EXPORTED = """
let [account, done] = arguments;
(async () => {
  const { QRExport } = ChromeUtils.importESModule("moz-src:///comm/mail/modules/QRExport.sys.mjs");
  done({ data: QRExport.getQRData(await QRExport.getAccountData(account, true), 1, 1) });
})().catch((error) => done({ error: String(error) + error.stack }));
"""


@dataclass
class Gone:
    """How it went."""

    found_s: float = 0.0
    """From the address to the servers."""
    notice: str = ""
    """What the wizard said of how it found them."""
    servers: dict[str, Any] = field(default_factory=dict)
    """As it showed them."""
    made: dict[str, Any] = field(default_factory=dict)
    """The account it made."""
    password: str = field(default="", repr=False)
    exported: Any = field(default=None, repr=False)
    """What it would show a telephone as a QR code."""


class Wizard:
    """The Account Hub of one running Thunderbird."""

    def __init__(self, thunderbird: Thunderbird, ca_file: Path, pictures: Path | None = None) -> None:
        self.thunderbird = thunderbird
        self._pictures = pictures
        pem = ca_file.read_text()
        thunderbird.run(TRUST, "".join(line for line in pem.splitlines() if "CERTIFICATE" not in line))

    def go(self, name: str, address: str, password: str, kind: str) -> Gone:
        """Add the account: nothing is typed but name, address and password; ``kind`` (imap, pop3) is clicked."""
        gone = Gone()
        self._until("emailAutoConfigSubview")
        self._type("#realName", name)
        self._type("#email", address)
        begun = time.monotonic()
        self._forward()
        gone.notice = self._until("emailConfigFoundSubview")["notice"]
        gone.found_s = time.monotonic() - begun
        self._click(f"#{kind} input")
        gone.servers = self.thunderbird.run(FOUND)
        self._picture("found")
        self._forward()
        self._until("emailPasswordSubview")
        self._type("#password", password)
        self._forward()
        self._until("emailAddedSuccessSubview")
        self._picture("added")
        gone.made = self.thunderbird.run(MADE)
        self._forward()
        return gone

    def _until(self, step: str) -> dict[str, Any]:
        """Wait until the wizard shows ``step``; nothing else tells."""
        end = time.monotonic() + PATIENCE_S
        while (shown := self.thunderbird.run(VISIBLE))["step"] != step or shown["busy"]:
            if time.monotonic() > end:
                self._picture("stuck")
                raise AssertionError(f"the wizard stays at {shown}")
            time.sleep(0.1)
        return shown

    def _element(self, selector: str) -> str:
        found = self.thunderbird.run(FIND, selector)["found"]
        assert isinstance(found, dict), selector
        return str(found[_ELEMENT])

    def _type(self, selector: str, text: str) -> None:
        element = self._element(selector)
        self.thunderbird.ask("WebDriver:ElementClear", {"id": element})
        self.thunderbird.ask("WebDriver:ElementSendKeys", {"id": element, "text": text})

    def _click(self, selector: str) -> None:
        self.thunderbird.ask("WebDriver:ElementClick", {"id": self._element(selector)})

    def _forward(self) -> None:
        end = time.monotonic() + PATIENCE_S
        while not self.thunderbird.run(VISIBLE)["forward"]:
            assert time.monotonic() < end, "there is no way forward"
            time.sleep(0.05)
        self._click("#forward")

    def _picture(self, name: str) -> None:
        if self._pictures is not None:
            self.thunderbird.screenshot(self._pictures / f"{name}.png")
