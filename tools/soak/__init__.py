"""A long run with faults at random times, judged by tests/support/checker: `make soak`."""
