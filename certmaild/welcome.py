"""The first message in the first mailbox: what a newcomer reads."""

import time
from email.message import EmailMessage

from certmaild.config_values import Config
from certmaild.correspondence import Correspondence
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.interfaces import Engine

TEXT = """\
Welcome.

This message was sealed for you before it reached the disk, and only your
password opened it just now: whoever takes the disk reads nothing of it.

- Write to {address} to see a message come back to you.
- A new password for another device (it asks for one that you have already):
  certmaild device add {address} --name phone
- Keep the recovery code that was shown with your password. If you lose every
  password, it is the only way back to your mail; nobody else can open it.
"""


async def deliver_welcome(engine: Engine, secrets: ServerSecrets, config: Config, address: str) -> None:
    """Put the welcome message into the mailbox of ``address``. Raises `StoreUnavailable`, `NotWritable`."""
    letter = EmailMessage()
    letter["Subject"] = "Welcome to your sealed mailbox"
    letter.set_content(TEXT.format(address=address))
    correspondence = Correspondence(engine, secrets, config, partners=None, seconds=time.time)
    await correspondence.mail.write(letter, address)
