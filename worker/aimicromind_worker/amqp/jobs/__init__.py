"""Receive jobs and cancel requests, settle deliveries, read the journal, hold chat locks."""
