"""Types of the messages: jobs, events, cancel requests."""
