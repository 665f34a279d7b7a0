"""Sentences to people who write to service addresses. No URI stands in any of them (PRODUCT section 1)."""

from email.message import EmailMessage

from certmaild.services.interfaces import Request

WHAT_WHERE = """\
Write to         what you write, in the subject or the first line

devices@{domain}  add phone            a new password, for a device that you call phone
                  list                 the devices that have a password
                  rename phone tablet  another name
                  revoke phone         its password is void at once, its sessions end
status@{domain}   (anything)           how your mailbox stands, and what waits to be sent
settings@{domain} list                 your settings, and how each is changed
help@{domain}     (anything)           this table
"""


def letter(text: str, subject: str | None = None) -> EmailMessage:
    """A plain letter; without a subject the answered one's is used."""
    made = EmailMessage()
    if subject is not None:
        made["Subject"] = subject
    made.set_content(text)
    return made


def not_understood(request: Request) -> EmailMessage:
    """What to write instead."""
    return letter(
        f"Nothing was done: no command was found in your message to {request.service}@.\n\n"
        "Write a command as the subject, or as the first line of the text, such as\n\n"
        "    add phone\n\n" + WHAT_WHERE.format(domain=request.domain)
    )
