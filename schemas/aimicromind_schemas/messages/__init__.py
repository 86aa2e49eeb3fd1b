"""The messages: jobs, events, cancel requests."""
