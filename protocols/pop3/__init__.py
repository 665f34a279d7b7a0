"""POP3 (RFC 1939) over implicit TLS."""
