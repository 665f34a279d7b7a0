"""People without a mailbox here who get one because somebody wrote to them."""
