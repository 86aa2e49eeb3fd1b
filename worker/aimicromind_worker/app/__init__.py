"""Settings, and the one place that puts the rooms together: start, reconnect, shut down."""
