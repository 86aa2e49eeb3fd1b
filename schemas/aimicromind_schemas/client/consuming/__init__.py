"""Handle events from a durable queue: several at a time, with retries and a dead-letter queue."""
