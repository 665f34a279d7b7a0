"""HTTPS for a few fixed files: grammar -> session -> server. One request a connection, no state, no log-in."""
