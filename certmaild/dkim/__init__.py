"""What signing and checking mail have in common: header fields, body hashes, keys (DKIM, RFC 6376; ARC, RFC 8617)."""
