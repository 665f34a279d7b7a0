"""Partners: domains whose mail servers exchange mail with this one under agreed terms."""
