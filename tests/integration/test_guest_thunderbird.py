"""A guest with Thunderbird itself: account name and code are all that he types; he reads, and answers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from enrol import first_log_in
from guest_support import GuestHouse, guest_house, running_world
from person import text_of
from thunderbird_support import GET_MESSAGES, SEND, running_thunderbird

SHOW_SUBJECT = """
let [serverKey, subject, done] = arguments;
(async () => {
  const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
  let server = MailServices.accounts.getIncomingServer(serverKey);
  let inbox = server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox);
  let tabmail = document.getElementById("tabmail");
  tabmail.currentAbout3Pane.displayFolder(inbox.URI);
  let body = "";
  for (let turn = 0; turn < 100 && !body.includes("normal"); turn++) {
    await new Promise((go) => window.setTimeout(go, 100));
    let view = tabmail.currentAbout3Pane.gDBView;
    let header = Array.from(inbox.messages).find((one) => one.mime2DecodedSubject == subject);
    if (!view || !header) { continue; }
    tabmail.currentAbout3Pane.threadTree.selectedIndex = view.findIndexOfMsgHdr(header, true);
    body = tabmail.currentAboutMessage?.getMessagePaneBrowser()?.contentDocument?.body?.textContent || "";
  }
  done({ body });
})().catch((error) => done({ error: String(error) + error.stack }));
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuestHouse]:
    with running_world() as world, guest_house(world, tmp_path_factory.mktemp("house")) as running:
        yield running


@pytest.mark.parametrize("kind", ["imap", "pop3"])
def test_a_guest_reads_and_answers(house: GuestHouse, program: Callable[[str], str], tmp_path: Path, kind: str) -> None:
    program("thunderbird")
    program("Xvfb")
    guest = first_log_in(house.member, house.invited())
    with running_thunderbird(tmp_path) as thunderbird:
        made = thunderbird.set_up(house.daemon, guest.account, kind)
        # The letter, and the one with his own password.
        found = thunderbird.run(GET_MESSAGES, made["server"], 2)
        assert "Your results" in found["subjects"]
        shown = thunderbird.run(SHOW_SUBJECT, made["server"], "Your results")
        assert "They are normal." in str(shown["body"])
        words = ("Re: Your results", f"Thank you, by {kind}.")
        sent = thunderbird.run(SEND, made["identity"], made["account"], house.member.address, *words)
        assert sent["failed"] == ""
        thunderbird.screenshot(tmp_path / f"guest-{kind}.png")
    house.member.wait_for(lambda one: words[1] in text_of(one))
