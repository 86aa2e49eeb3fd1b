"""Jobs in: deliveries, cancel requests, the journal, the chat lock."""
