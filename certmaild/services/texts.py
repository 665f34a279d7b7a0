"""Sentences to people who write to service addresses, and in service folders.

No URI stands in any of them (PRODUCT section 1). Each begins with what happened, or with what to do.
"""

import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage

from certmaild.services.fleet import Device
from certmaild.services.interfaces import Request

WIDTH = 72
_TABLE = """\
To devices@{domain}
    add phone               a password for a device that you call phone
    add phone apple         the same, with a profile for iPhone, iPad and Mac
    list                    your devices
    rename phone to tablet  another name
    revoke phone            its password is void at once, its sessions end
    profile                 a profile for Apple's devices, without a password
To status@{domain}
    (anything)              how your mailbox stands, and what waits to be sent
    (the id of a message)   what became of that one
To settings@{domain}
    list                    your settings, and how each is changed
    sent copies server      who keeps what you send: server, or client
    retr marks seen on      whether what POP3 fetches counts as seen: on, off
    language de             guests: of notices to their ordinary address
To invite@{domain}
    new code                in reply to the message with a guest's code
To help@{domain}
    (anything)              this table
"""


def letter(text: str, subject: str | None = None) -> EmailMessage:
    """A plain letter; without a subject the answered one's is used."""
    made = EmailMessage()
    if subject is not None:
        made["Subject"] = subject
    made.set_content(text)
    return made


def paragraphs(*lines: str) -> str:
    """Sentences as short lines with blank ones between; what begins with a blank stays as it is."""
    shaped = [
        line if line.startswith(" ") or "\n" in line else textwrap.fill(line, WIDTH, break_long_words=False)
        for line in lines
        if line
    ]
    return "\n\n".join(shaped) + "\n"


def table(domain: str) -> str:
    """What can be written where."""
    return _TABLE.format(domain=domain).rstrip("\n")


def not_understood(request: Request) -> EmailMessage:
    """What to write instead."""
    where = "as the first line of the text: the subject of a reply counts for nothing, since others may have written it"
    return letter(
        paragraphs(
            f"Nothing was done: no command was found in your message to {request.service}@{request.domain}. Write it "
            f"{where if request.is_answer else 'as the subject, or as the first line of the text'}, such as",
            "    add phone",
            table(request.domain),
        )
    )


def help_for(domain: str) -> EmailMessage:
    """The table alone."""
    return letter(
        paragraphs(
            "This is what you can ask of the server by mail. Write it as the subject, or as the first line of the "
            "text. The answer comes into your sealed INBOX; nobody else can ask for you.",
            table(domain),
        )
    )


# Settings.


def settings_listed(domain: str, *, by_server: bool, marks_seen: bool, language: str | None) -> str:
    """How an account is set. ``language``: of a guest's notices, empty while it is not known; None: he has none."""
    return paragraphs(
        "This is how your account is set. To change a line, write it anew as the subject of a message to "
        f"settings@{domain}.",
        f"    sent copies {'server' if by_server else 'client'}",
        "Who puts what you send into the folder Sent: your mail program (client), or this server (server), as POP3 "
        "needs it.",
        f"    retr marks seen {'on' if marks_seen else 'off'}",
        "Whether a message counts as seen when a program has fetched it by POP3: on, or off.",
        *(
            ()
            if language is None
            else (
                f"    language {language or 'en'}",
                "In which language you are told at your ordinary address that mail waits for you here"
                + ("." if language else "; it is not set yet, and your address decides."),
            )
        ),
    )


def sent_copies_set(*, by_server: bool) -> str:
    """The answer to ``sent copies``."""
    if by_server:
        return paragraphs(
            "From now on this server puts what you send into the folder Sent. Tell your mail program not to do it too."
        )
    return paragraphs("From now on your mail program keeps what you send; this server puts nothing into Sent.")


def marks_seen_set(*, is_on: bool) -> str:
    """The answer to ``retr marks seen``."""
    return paragraphs(
        "From now on a message counts as seen when a program has fetched it by POP3."
        if is_on
        else "From now on fetching a message by POP3 leaves it unseen."
    )


NO_LANGUAGE = paragraphs(
    "Nothing was done: the language is that of notices to the ordinary addresses of guests, and your account has none."
)


def unknown_language(language: str, known: Sequence[str]) -> str:
    """The answer to a language that no notice is written in."""
    return paragraphs(f"Nothing was done: {language} is none of the languages here, which are {', '.join(known)}.")


def language_set(language: str) -> str:
    """The answer to ``language``."""
    return paragraphs(f"From now on notices to your ordinary address are written in this language: {language}.")


# Devices.


def added(
    device: str, password: str, settings: str, hours: str, domain: str, *, with_picture: bool, profile: str
) -> str:
    """The answer to ``add``. ``profile``: a sentence about it."""
    return paragraphs(
        f"The password of the new device {device} is",
        f"    {password}",
        f"It is shown here until it is used for the first time, and for {hours} at most. It is the device's own: do "
        "not use it for another one.",
        "Type this into the mail program there:",
        settings,
        "The picture attached (a QR code) types it for you into Thunderbird for Android: choose Import settings there "
        "and scan it. It is no link, and it holds the password: send it to nobody."
        if with_picture
        else "",
        profile,
        f"If you did not ask for this, somebody has one of your passwords: write the line below to devices@{domain}.",
        f"    revoke {device}",
    )


PROFILE_ATTACHED = (
    "On iPhone, iPad or Mac open the file attached instead: it sets up the account, password and all. "
    + "Send it to nobody."
)
PROFILE_MISSING = "A profile for Apple's devices cannot be made at the moment; type the lines above."


def profile_hint(device: str) -> str:
    """How to get a profile with the password in it."""
    return f'For iPhone, iPad or Mac a profile does the typing: write "profile" for one that asks for the password, or \
add the device as "add {device} apple" for one that holds it.'


def profile_answer(settings: str, *, is_attached: bool) -> str:
    """The answer to ``profile``."""
    if not is_attached:
        return paragraphs(PROFILE_MISSING.replace("above", "below"), settings)
    return paragraphs(
        "The file attached sets up your account on iPhone, iPad or Mac. It holds no password: the device asks for one, "
        "and each device should have its own.",
        settings,
    )


def moment(at_s: int) -> str:
    """A time, for people."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d at %H:%M UTC")


def announced_by_command(device: str, who: str, when: str, domain: str) -> EmailMessage:
    """Word of a device that was added on the server itself. ``who``: as in the audit log."""
    return letter(
        paragraphs(
            f"A new device was added to your mailbox: {device}, on the server itself ({who}), on {when}.",
            "That took a password of yours, or your recovery code. If you gave none to anybody, ask the administrator "
            f"of this server about it, and write to devices@{domain}",
            f"    revoke {device}",
        ),
        f"New device: {device}",
    )


def announced(device: str, by: str, when: str, domain: str) -> EmailMessage:
    """Word of a new device to all the others. ``by``: the device that asked for it."""
    return letter(
        paragraphs(
            f"A new device was added to your mailbox: {device}, by {by}, on {when}.",
            f"If that was you, there is nothing to do. If it was not, somebody has a password of yours: write to "
            f"devices@{domain} the two lines below, each in a message of its own.",
            f"    revoke {device}\n    revoke {by}",
        ),
        f"New device: {device}",
    )


def listed(devices: Sequence[Device], own: Device | None, domain: str) -> str:
    """The answer to ``list``."""
    blocks = [_facts(one, is_own=one is own) for one in devices]
    return paragraphs(
        f"Your mailbox has {len(devices)} device{'' if len(devices) == 1 else 's'}.",
        *blocks,
        f'To take one away write "revoke NAME" to devices@{domain}, or delete its message in the folder Devices.',
    )


def _facts(device: Device, *, is_own: bool = False) -> str:
    lines = [
        f"  {device.name}" + (" (this message came by it)" if is_own else ""),
        f"    made       {device.made}",
        f"    last used  {device.last_used}",
    ]
    if device.client.network:
        lines.append(f"    from       the network {device.client.network}")
    if device.program:
        lines.append(f"    program    {device.program}")
    return "\n".join(lines)


def device_text(device: Device, domain: str, *, came_back: bool) -> str:
    """The message that tells of a device, in the folder Devices."""
    return paragraphs(
        f"This message came back: {device.name} is your last device, or the one you deleted it with, or you deleted it "
        f'by POP3. To take away that one too, write "revoke {device.name}" to devices@{domain}.'
        if came_back
        else "",
        f"This message stands for the device {device.name}. Delete it, and the device is revoked at once: its password "
        "is void and its sessions end.",
        _facts(device),
        "Your last device, and the one with which you delete, stay: their message comes back, and so does what you "
        f"delete by POP3. For these write to devices@{domain}:",
        f"    revoke {device.name}",
        "" if device.label else f'It has no name yet: give it one by writing "rename {device.name} to phone" there.',
    )


def device_subject(device: Device) -> str:
    """Of that message."""
    return device.name if device.label else f"Device {device.name}"


INSTRUCTION_SUBJECT = "Your devices: how to add one, how to take one away"


def instruction(domain: str) -> str:
    """The message in Devices that cannot be lost."""
    return paragraphs(
        "Each message in this folder stands for one device that has a password to your mailbox.",
        "To take a device away, delete its message, or move it to Trash: its password is void at once and its sessions "
        "end. Your other messages are not touched.",
        f"To add a device, write to devices@{domain} from this account, with the subject",
        "    add phone",
        "or whatever you call it. A password for it comes into your INBOX, with all that has to be typed, and every "
        "other device is told.",
        f"Everything that you can ask for by mail stands in the answer to any message to help@{domain}.",
        "This message comes back when it is deleted.",
    )


def revoked(device: str) -> str:
    """The answer to ``revoke``."""
    return paragraphs(f"{device} is revoked: its password is void, and its sessions end now.")


def last_way(device: str) -> str:
    """Before the last device is revoked."""
    return paragraphs(
        f"Nothing was done: {device} is your last device. Without it only your recovery code opens the mailbox, and "
        "without that nobody can. If you have the code at hand and mean it, write",
        f"    revoke {device} yes",
    )


def renamed(old: str, new: str) -> str:
    """The answer to ``rename``."""
    return paragraphs(f"{old} is called {new} from now on.")


def no_such_device(name: str, devices: Sequence[Device]) -> str:
    """A name that none has."""
    return paragraphs(
        f"Nothing was done: you have no device called {name}. These are yours:"
        if name
        else "Nothing was done: write the device's name behind the word. These are yours:",
        "\n".join(f"    {one.name}" for one in devices),
    )


def ambiguous(name: str, ids: Sequence[str]) -> str:
    """A name that several have."""
    return paragraphs(
        f"Nothing was done: several of your devices are called {name}. Name one by its id, which is one of these:",
        "\n".join(f"    {one}" for one in ids),
    )


def name_taken(name: str) -> str:
    """A name that another has."""
    return paragraphs(f"Nothing was done: you have a device called {name} already. Choose another name.")


NO_NAME = paragraphs(
    "Nothing was done: a device needs a name of one to 60 letters, such as",
    "    add phone",
)
NO_NAMES = paragraphs("Nothing was done: name the device and its new name, such as", "    rename phone to tablet")


def too_many(most: int) -> str:
    """As many as there may be."""
    return paragraphs(
        f"Nothing was done: your mailbox has {most} devices, and more are not allowed here. Revoke one that you no "
        "longer use first; list shows them.",
    )


def password_gone(device: str, domain: str, *, was_used: bool) -> EmailMessage:
    """What takes the place of a message that showed a password."""
    if was_used:
        what = f"{device} has logged in, so the password that stood here is shown no longer."
    else:
        what = (
            "Nobody has used the password that stood here, and it is shown no longer. If you have typed it somewhere "
            "it still works; if you have lost it, revoke the device and add it again."
        )
    return letter(
        paragraphs(what, f'Your devices are listed in the answer to the word "list" to devices@{domain}.'),
        "The password that stood here is gone",
    )


def password_void(domain: str) -> EmailMessage:
    """What takes the place of a password whose device is revoked."""
    return letter(
        paragraphs(
            "The password that stood here is void: its device was revoked.",
            f'For a new one write "add phone", or whatever you call it, to devices@{domain}.',
        ),
        "The password that stood here is void",
    )


def idle_revoked(device: str, last_used: str, days: int, domain: str) -> EmailMessage:
    """Word of a device that was revoked because nobody used it."""
    return letter(
        paragraphs(
            f"The device with the id {device} was revoked: nobody has used it for {days} days (last used: "
            f"{last_used}). Its password is void.",
            f'If you want to use it again, write "add phone", or whatever you call it, to devices@{domain}.',
        ),
        f"A device that was not used is revoked: {device}",
    )
