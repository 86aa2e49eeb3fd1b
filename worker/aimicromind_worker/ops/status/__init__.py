"""Show the state of an installation: its workers, its queues and its dead letters."""
