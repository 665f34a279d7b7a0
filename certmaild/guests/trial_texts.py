"""Every sentence about mailboxes on trial. Plain text, no link and nothing that a mail program makes one of."""

from email.message import EmailMessage

from certmaild.guests.code_texts import day, letter, moment

SUBJECT_NOTICE = "Your mailbox to try: how to set it up"
SUBJECT_CODE = "Your mailbox to try: the code"


# To the ordinary address.


def notice_letter(ordinary: str, settings: str, account: str, until_s: float, server: str) -> EmailMessage:
    """What to type. ``settings``: the three lines; ``server``: the domain in whose name it is written."""
    return letter(
        SUBJECT_NOTICE,
        f"You asked for a mailbox to try, and here it is: made for {ordinary} by the mail server of {server}, on trial"
        f" until {day(until_s)}. A sealed message waits in it.",
        "You can read it in the mail program that you already use, on a computer or on a telephone; there is no web"
        " page to visit. Please add another mail account in that program, and type:",
        f"    E-mail address:  {account}\n    Password:        the code that comes in another message",
        "If the program asks for servers, these are the settings:",
        _indented(settings),
        "The code comes in a message of its own, by a connection on which your mail server proves who it is. If your"
        " mail server cannot do that the code does not come, and the mailbox is removed unused.",
        "When you open the mailbox the time is recorded. The mailbox and all that is in it is removed on"
        f" {day(until_s)}; you need not do anything.",
        "If you did not ask for it, somebody wrote in your name: you need not do anything either. This notice holds no"
        " link, no attachment and no code.",
        f"If something does not work, please write to postmaster@{server}.",
    )


def code_letter(account: str, code: str, expires_s: float, server: str) -> EmailMessage:
    """Shows the code."""
    return letter(
        SUBJECT_CODE,
        f"Here is the code for the mailbox that the mail server of {server} made for you to try. Type it where your"
        " mail program asks for the password:",
        f"Code: {code}\nAccount: {account}",
        f"It is valid until {moment(expires_s)}, and void as soon as you have used the password that lies in the"
        " mailbox.",
        "This code came by ordinary mail, so whoever can read your ordinary mail can use it. That is good enough for a"
        " trial, in which nobody writes to you but the server; and it is the reason why the code of a real mailbox is"
        " told by telephone. When somebody here sends you a sealed message, your trial ends, and you get a new mailbox"
        " with such a code.",
    )


def is_there_letter(ordinary: str, until_s: float) -> EmailMessage:
    """There is a mailbox already. ``until_s``: how long it is on trial; 0: it is none to try."""
    how = (
        f"It is on trial until {day(until_s)}, and was opened: look into the mail program in which you set it up. If"
        " you have lost its password, wait until it is removed, and ask again."
        if until_s
        else "It is not one to try: use it with the password that you have, or ask whoever wrote to you there for a new"
        " code."
    )
    return letter(
        "You have a mailbox here",
        f"Nothing was made: there is a mailbox here for {ordinary} already. {how}",
        "You are told this because you, or somebody in your name, asked for a mailbox to try.",
    )


# In the mailbox on trial.


def welcome_letter(ordinary: str, account: str, until_s: float) -> EmailMessage:
    """What waits in it."""
    domain = account.rpartition("@")[2]
    return letter(
        "Welcome: this message was sealed for you",
        f"You are reading a sealed message. It was made for {ordinary} and encrypted to your mailbox before it was"
        " written to the disk, where nothing opens it but your code or password; and it took no other way than the one"
        " between this server and your mail program.",
        "First type the password that stands in the other message here; the code is for the first opening alone. Then"
        " you can try:",
        "    1. Reply to this message. You get an answer, sealed like this one.\n"
        f'    2. Write to devices@{domain} with the subject "add phone", and set up your\n'
        "       telephone with the password that comes back.\n"
        '    3. Look into the folder "Devices": delete the message of the telephone, and\n'
        "       its access ends at once.\n"
        f"    4. Write to help@{domain}: the answer says what else there is.",
        "While it is on trial this mailbox writes to the server alone, and nobody but the server writes to it.",
        f"It is removed, with all that is in it, on {day(until_s)}.",
    )


def ending_letter(account: str, until_s: float, server: str) -> EmailMessage:
    """Three days before."""
    return letter(
        f"Your trial ends on {day(until_s)}",
        f"The mailbox {account} is removed on {moment(until_s)}, with all that is in it. Please copy what you want to"
        " keep to another account in your mail program.",
        f"If you want a mailbox that stays, write to postmaster@{server}.",
    )


def echo_letter(subject: str, text: str, until_s: float) -> EmailMessage:
    """The answer to a message to ``try@``; quotes the beginning of it. ``until_s``: 0 for who is not on trial."""
    first = [f"> {line}" for line in text.split("\n")[:QUOTED_LINES]]
    parts = [
        "Your message has arrived, by a connection that only you and the server could read, from somebody who is logged"
        " in. This answer was written by a program and sealed for you. You wrote:",
        "\n".join([f"> {subject}", *first] if subject else first) or "> ",
    ]
    if until_s:
        parts.append(f"Your mailbox is on trial until {day(until_s)}.")
    return letter(f"Re: {subject}" if subject else "Re: your message", *parts)


QUOTED_LINES = 10


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.split("\n"))


# To mail servers, as refusals.

NOT_PROVEN = (
    "A mailbox to try is given to who writes from an address that proves itself: neither SPF nor DMARC vouches for"
    " your From address; write from another one, or ask your postmaster"
)
ONE_AUTHOR = "To get a mailbox to try, write from one address, the same in From and as the sender"
AUTOMATIC = "Automatic messages, lists and reports get no mailbox to try"
OURS = "You have a mailbox here: there is nothing to try"
PARTNER = "Your domain is a partner of this server: mail goes there over proven TLS, and needs no mailbox here"
LITERAL = "A mailbox to try needs an address with a domain name"
NOT_WRITABLE = "Nothing can be written to your address from here: write from another one"
TOO_MANY = "So many mailboxes to try were asked for today that there are no more: please write again tomorrow"
TOO_MANY_ECHOES = "You have had {limit} answers in 24 hours: please write again tomorrow"
ALONE = "Write to this address alone to get a mailbox to try"
