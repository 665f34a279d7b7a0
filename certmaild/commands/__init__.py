"""The `certmaild` command: one sub-command, one file."""
