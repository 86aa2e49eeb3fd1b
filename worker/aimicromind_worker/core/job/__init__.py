"""A job's rules: admission, history, retries, cancels, the numbering of its events."""
