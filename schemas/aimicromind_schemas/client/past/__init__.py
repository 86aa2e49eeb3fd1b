"""Events that were published before: from the worker of a job, the event log, or the endings."""
