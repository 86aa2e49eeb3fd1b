"""A long run with faults at random times, judged by the checker: `python -m tools.soak`."""
