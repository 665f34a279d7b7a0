"""How a conversation with a server ends before its time."""

from certmaild.protocols.errors import ProtocolError
from certmaild.protocols.smtp.client.grammar import Reply


class ConversationOver(ProtocolError):
    """Nothing more can be said on this connection. ``words`` are a clause: ``it closed the connection``."""

    def __init__(self, words: str, reply: Reply | None = None) -> None:
        super().__init__(words)
        self.words = words
        self.reply = reply
        """The server's own, if he said why."""
