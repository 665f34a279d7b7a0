"""What mail programs must be told, in words and in the files that they look for themselves."""
