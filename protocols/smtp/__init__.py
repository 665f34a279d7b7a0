"""SMTP reception and submission (RFC 5321, RFC 6409)."""
