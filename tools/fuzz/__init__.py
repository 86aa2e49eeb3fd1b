"""Random tests: mutated answers of the endpoint, and odd messages, through the worker."""
