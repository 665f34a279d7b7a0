"""The first message in the first mailbox: what a newcomer reads, delivered as any other mail is."""

import time
from collections.abc import Callable
from typing import TypeVar

from certmaild.config import Config
from certmaild.delivery import Delivery
from certmaild.filing import DeliverySettings
from certmaild.keystore.server_secrets import ServerSecrets
from certmaild.mailbox.directory import Directory
from certmaild.mailbox.interfaces import Engine
from certmaild.protocols.smtp.grammar import parse_path
from certmaild.protocols.smtp.interfaces import Hop, Listener
from certmaild.protocols.smtp.parameters import MailArguments, RcptArguments
from certmaild.routing import Router
from certmaild.trace import format_date

T = TypeVar("T")

TEXT = """\
Welcome.

This message was sealed for you before it reached the disk, and only your
password opened it just now: whoever takes the disk reads nothing of it.

- Write to {address} to see a message come back to you.
- A new password for another device: certmaild device add {address} --name phone
  (it asks for a password that you already have).
- Keep the recovery code that was shown with your password. If you lose every
  password, it is the only way back to your mail; nobody else can open it.
"""


async def _run_here(work: Callable[[], T]) -> T:
    """One recipient's sealing takes no thread."""
    return work()


async def deliver_welcome(engine: Engine, secrets: ServerSecrets, config: Config, address: str) -> None:
    """Put the welcome message into the mailbox of ``address``. Raises `MailboxError`, `Refusal`."""
    directory = Directory(engine, secrets)
    delivery = Delivery(
        engine,
        secrets,
        directory,
        Router(directory, config.domains),
        DeliverySettings(config.hostname, config.limits, config.padding),
        seconds=time.time,
        in_thread=_run_here,
    )
    hop = Hop("set-up", Listener.INBOUND, "127.0.0.1", config.hostname, True, None, None)
    path = parse_path(f"<{address}>".encode(), utf8=True)
    transaction = await delivery.begin(hop, MailArguments(path))
    await transaction.add_recipient(RcptArguments(path))
    body = TEXT.format(address=address).replace("\n", "\r\n")
    date = format_date(time.time()).decode("ascii")
    header = (
        f"From: certmaild <{address}>\r\nTo: <{address}>\r\nSubject: Welcome to your sealed mailbox\r\nDate: {date}\r\n"
        f"Message-ID: <welcome.{transaction.queue_id}@{config.hostname}>\r\nAuto-Submitted: auto-generated\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    pause = transaction.write((header + body).encode())
    if pause is not None:
        await pause
    await transaction.finish()
