"""The other end of SMTP and LMTP: this server as a client of the next one. Grammar, session, connection."""
