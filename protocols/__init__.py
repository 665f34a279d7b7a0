"""Floor 2, speaks: imap, pop3 and smtp, each a grammar, a session and a server."""
