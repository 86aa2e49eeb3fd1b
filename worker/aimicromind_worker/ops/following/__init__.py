"""Show the events of a chat or of a job in the terminal."""
