"""Report the worker's status, health, metrics, traces and logs."""
