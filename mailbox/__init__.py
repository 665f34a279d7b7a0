"""Floor 1, keeps: engine, accounts, arrivals, messages, folders, pages, search, changes."""
