"""Every sentence about clouds of mail programs. No text holds a link, and none may."""

FORBIDDEN = (
    "This mail program hands your password and mail to its maker's servers, which is not allowed here."
    " Use classic Outlook, Thunderbird or Apple Mail."
)
"""One line in ASCII: what the program is answered."""

WARNED_SUBJECT = "Your mail passes through {cloud}"
REFUSED_SUBJECT = "Refused: a log-in through {cloud}"
DEFAULT_CLOUD = "the servers of your mail program's maker"

WARNED = """\
Your mail program logged in through {cloud}. Its maker's servers keep
your password, and your mail lies there in clear: this mailbox is sealed
for you alone, and that program opens it for somebody else.

  device:  {device}
  service: {service}
  from:    {peer}
  when:    {when}

What to do:

1. Set up this account in another mail program on the same device. Classic
   Outlook, Thunderbird and Apple Mail fetch mail themselves. New Outlook for
   Windows and the Outlook apps for telephones do not.
2. Take the account out of the old program.
3. Revoke its password: {revoke}

If you did not use such a program, somebody else knows that password: revoke
it at once. This message comes again after 30 days while the program is used.
"""

REFUSED = """\
A log-in to your mailbox with the right password was refused: it came
through {cloud}. Its maker's servers would keep your password, and your
mail would lie there in clear. The people who run this server do not allow it.

  device:  {device}
  service: {service}
  from:    {peer}
  when:    {when}

What to do:

1. Use another mail program on that device. Classic Outlook, Thunderbird and
   Apple Mail fetch mail themselves. New Outlook for Windows and the Outlook
   apps for telephones do not.
2. Revoke the password that you typed there, since those servers know it now:
   {revoke}
3. Make a new password for the other program.
"""
REVOKE = 'send a message with the subject "revoke {device}" to devices@{domain}.'
