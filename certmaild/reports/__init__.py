"""What the server itself writes to people: delivery status reports, warnings, notices."""
