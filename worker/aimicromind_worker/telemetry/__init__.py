"""What the worker reports of itself: status, health, metrics, traces, logs."""
