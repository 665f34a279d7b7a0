"""Every sentence that is written about codes: to senders who pass them on, to guests who come in by them.

Plain text, no link and nothing that a mail program makes one of (`certmaild.reports.links`). A code or password stands
in one letter, sealed for whom it is meant, and nowhere else.
"""

import textwrap
import time
from email.message import EmailMessage

WIDTH = 76
RENEW = "new code"
"""What a sender replies to have the code renewed."""
ANEW = "new mailbox"
"""What he replies where nobody can renew it, to begin with an empty mailbox."""
BY_CODE = "by pickup code, which the sender knows"
"""How a log-in with the code is named wherever one is told of it."""


def letter(subject: str, *paragraphs: str) -> EmailMessage:
    """A letter of wrapped paragraphs; one that begins with a space or holds a line feed stays as it is."""
    made = EmailMessage()
    made["Subject"] = subject
    made.set_content("\n\n".join(_wrapped(one) for one in paragraphs) + "\n")
    return made


def _wrapped(text: str) -> str:
    if "\n" in text or text.startswith(" "):
        return text
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def moment(seconds: float) -> str:
    """A day and time for people: ``23 November 2026 at 14:05 UTC``."""
    return time.strftime("%d %B %Y at %H:%M UTC", time.gmtime(seconds)).lstrip("0")


def day(seconds: float) -> str:
    """The day alone."""
    return time.strftime("%d %B %Y", time.gmtime(seconds)).lstrip("0")


# To the sender.


def code_letter(
    whom: str, account: str, code: str, expires_s: float, reason: str, *, domain: str, renewed: bool, command: bool
) -> EmailMessage:
    """Shows a pickup code. ``reason``: why the message was sealed; ``command``: the operator's program carries it."""
    or_own = "" if whom == account else f" (or {whom})"
    happened = (
        f"Here is a new code for {whom}; the former one is void."
        if renewed
        else f"A mailbox is made here for {whom}, in which what you write to this address waits, sealed."
    )
    also = (
        "The program that the administrator of this server has set up for it was asked to pass the code on as well. If"
        " that fails you are told."
    )
    parts = [
        f"{happened} Say the code below to the recipient, on the telephone or in person. Do not send it by mail.",
        f"Code: {code}\nAccount: {account}",
        "What you can say:",
        textwrap.indent(
            _wrapped(
                f"There is a sealed message for you. Add an account to your mail program: the address is {account}"
                f"{or_own}, and where it asks for a password, type the code that I read to you now."
            ),
            "    ",
        ),
        f"The code is valid until {moment(expires_s)}. It is void as soon as the recipient has used a password of his"
        " own, which lies in the mailbox when it is opened first.",
        f"Until then the recipient sees what people at {domain} wrote, and mail of others only after that. Whoever"
        f" reads this message can open the mailbox too: therefore you will be told that it was opened {BY_CODE}.",
    ]
    if reason:
        parts.append(f"The reason: {reason}.")
    if command:
        parts.insert(2, also)
    parts += [
        "This server keeps no copy of the code. If it is lost, or too old, reply to this message with the words",
        f"    {RENEW}",
    ]
    return letter(f"Code for {whom}", *parts)


def opened_letter(whom: str, at_s: float) -> EmailMessage:
    """Takes the place of the letter with the code."""
    return letter(
        f"Opened: the mailbox of {whom}",
        f"{whom} opened the mailbox on {moment(at_s)}, {BY_CODE}. You need not do anything.",
        "Is the recipient surprised to hear of it? Then somebody else had the code: tell the administrator of this"
        " server at once.",
        "The code stood here and is shown no longer. It is void as soon as the recipient uses the password that lay in"
        " the mailbox.",
    )


def joined_letter(whom: str, at_s: float) -> EmailMessage:
    """Takes the place of the letter with the code, if the guest came in by another way."""
    return letter(
        f"Opened: the mailbox of {whom}",
        f"{whom} opened the mailbox on {moment(at_s)} with a password of his own. You need not do anything: the code"
        " that stood here is void.",
    )


def expired_letter(whom: str) -> EmailMessage:
    """Takes the place of the letter with the code when nobody used it."""
    return letter(
        f"Not opened yet: the mailbox of {whom}",
        f"Nobody has used the code for {whom} that stood here, and it is void now. The message still waits.",
        "For another one, reply to this message with the words",
        f"    {RENEW}",
    )


def removed_letter(whom: str, days: int) -> EmailMessage:
    """The mailbox went with all that was in it, unread."""
    return letter(
        f"Never opened: the mailbox of {whom}",
        f"Nobody opened the mailbox of {whom} in {days} days. It was removed, and your messages in it with it: nobody"
        " has read them.",
        "If they still matter, ask the recipient for his address, and send them again: a new mailbox is made then, and"
        " you get a new code.",
    )


def guessed_letter(whom: str, tries: int) -> EmailMessage:
    """Somebody tries codes."""
    return letter(
        f"Wrong codes for {whom}",
        f"Somebody tried {tries} wrong codes at the mailbox of {whom}. It is not opened, and whoever tries is slowed"
        " down; the right code works as before.",
        "If the recipient says that it was not he, there is nothing for you to do: a code is not guessed in a thousand"
        " years. If he has trouble with it, read it to him once more, letter by letter.",
    )


def later_letter(whom: str, by: str | None) -> EmailMessage:
    """To a sender who is not the first. ``by``: who has the code, if he may know."""
    ask = (
        f" {by} has it: ask there whether it was passed on."
        if by
        else " You need not do anything: whoever has it was asked to pass it on."
    )
    return letter(
        f"Waiting for {whom}",
        f"Your message to {whom} was sealed, and waits in a mailbox here that was made before. The code that opens it"
        f" has been given out already.{ask}",
    )


def command_failed_letter(whom: str) -> EmailMessage:
    """The operator's program did not carry a code."""
    return letter(
        f"Not sent: the code for {whom}",
        f"The program that was to pass on the code for {whom} failed. Say it to the recipient yourself: it stands in"
        f' the message called "Code for {whom}".',
        "The administrator of this server finds in the log how the program ended.",
    )


def send_again_letter(whom: str, by: str | None) -> EmailMessage:
    """Keys were made anew: what waited is lost."""
    who = f" {by} has the new code and passes it on." if by else ""
    return letter(
        f"Send again: your message to {whom}",
        f"Your message to {whom} was never opened, and nobody can open it any more. Please send it again.",
        "Nobody was left who could renew the code that opens the mailbox, so a new mailbox was made under the same"
        f" address, with new keys.{who}",
    )


# To the sender, as answers to what he writes to the service address.


def renewed_answer(whom: str) -> EmailMessage:
    """The code was renewed."""
    return letter(
        f"Code for {whom}",
        f'Done: the new code is in the message called "Code for {whom}", in your INBOX. The former one is void.',
    )


def confirm_answer(whom: str, expires_s: float) -> EmailMessage:
    """Nobody can renew; ``expires_s``: until when the code that was given out is valid, 0: it is not."""
    valid = f" The code that was given out is valid until {moment(expires_s)}: has the recipient tried it?"
    return letter(
        f"No new code for {whom}",
        f"Nothing was done: nobody is left who could renew the code for {whom}, and this server cannot open a mailbox"
        f" by itself.{valid if expires_s else ''}",
        "A new, empty mailbox can be made under the same address. What waits in the present one is lost then, unread,"
        " and everybody who is known to have written is asked to send again. If you want that, reply with the words:"
        f" {ANEW}",
    )


def anew_answer(whom: str) -> EmailMessage:
    """The keys were made anew."""
    return letter(
        f"Code for {whom}",
        f'There is a new code, in the message called "Code for {whom}" in your INBOX. But please send your message to'
        f" {whom} again: what waited cannot be opened any more.",
        "Nobody was left who could renew the former code, so a new mailbox was made under the same address, with new"
        " keys. This server cannot open a mailbox by itself.",
    )


def whom_answer() -> EmailMessage:
    """It is not known whose code is to be renewed."""
    return letter(
        "Whose code?",
        "Nothing was done: it is not clear whose code you want to renew, or you have not written to that address.",
        f"Reply to the message that shows the code with the words: {RENEW}. Or write these words and the recipient's"
        " address as the subject of a new message.",
    )


def has_own_answer(whom: str, *, opened: bool) -> EmailMessage:
    """No code is needed any more."""
    how = (
        "the mailbox was opened with the code, and has a password and a recovery code of its own; both lie in it."
        if opened
        else "the recipient has a password of his own."
    )
    return letter(f"No new code for {whom}", f"Nothing was done: {how} A new code is neither needed nor possible.")


def held_answer(whom: str, by: str | None) -> EmailMessage:
    """Somebody else has the code."""
    who = f'{by} has it, and renews it by replying "{RENEW}": ask there.' if by else "Who has it is to pass it on."
    return letter(
        f"No new code for {whom}",
        f"Nothing was done: the code for {whom} has been given out to somebody else. {who}",
    )


def meanwhile_answer(whom: str) -> EmailMessage:
    """Something else happened at the same moment."""
    return letter(
        f"No new code for {whom}",
        f"Nothing was done: the mailbox of {whom} changed just now. Look at your newest messages about it, and write"
        " once more if you still need a code.",
    )


# To the guest.


def welcome_letter(account: str, password: str, recovery: str) -> EmailMessage:
    """What the first session finds."""
    return letter(
        "Your own password: please type it now",
        "Welcome. The code that you typed was made for one opening, and whoever sent you the message knows it as well."
        " Here is a password that nobody else knows. Please type it in place of the code, in the settings of the"
        f" account {account} in your mail program, both for incoming and for outgoing mail:",
        f"Password: {password}",
        "Upper and lower case, spaces and dashes do not count. With the first use of this password the code is void,"
        " you see what everybody has written to you, and this message goes.",
        "Should you ever lose your password, this recovery code is the only way back to your mail, and nobody else has"
        " it. Please write it on paper, now:",
        f"Recovery code: {recovery}",
        "For a telephone or another computer, write to devices@"
        + account.rpartition("@")[2]
        + " from this account, with the subject: add phone",
    )


def welcome_tombstone() -> EmailMessage:
    """Takes the place of the letter with the guest's first password."""
    return letter(
        "Your own password is in use",
        "The password that stood here is in use now, so it is shown no longer, nor is the recovery code: you have it on"
        " paper. The code by which you opened this mailbox first is void.",
    )


# Recovery.


def fresh_password_letter(account: str, password: str, at_s: float) -> EmailMessage:
    """In the folder Devices, for whoever comes in by the recovery code."""
    return letter(
        "A new password",
        f"Here is a new password for {account}. Type it in your mail program in place of the recovery code, both for"
        " incoming and for outgoing mail:",
        f"Password: {password}",
        "With the recovery code alone you see your devices, and no mail. To revoke a device that you have lost, delete"
        " the message that tells of it; with POP3, where deleting does not count here, type the new password first and"
        " write to devices@ as that message says. Keep the recovery code on paper.",
        f"Made on {moment(at_s)}, when somebody logged in with the recovery code.",
    )


def recovered_letter(account: str, at_s: float, network: str) -> EmailMessage:
    """To all devices."""
    place = f", from the network {network}" if network else ""
    return letter(
        "Your recovery code was used",
        f"Somebody logged in to {account} with the recovery code on {moment(at_s)}{place}, and was given a new"
        " password. If that was you, all is well.",
        "If it was not: delete the message of every device in the folder Devices that is not yours, and tell the"
        " administrator of this server at once that somebody has your recovery code.",
    )
