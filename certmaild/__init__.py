"""certmaild: a secure mailbox server over IMAP, POP3 and SMTP (floor 3: decides and assembles)."""

__version__ = "0.1.0"
