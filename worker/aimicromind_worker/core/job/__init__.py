"""The rules of a job, without I/O: admission, history, retries, cancels, numbering of events."""
