"""Floor 0, locks: primitives, user keys, credentials, sealing, server secrets, TLS certificates."""
