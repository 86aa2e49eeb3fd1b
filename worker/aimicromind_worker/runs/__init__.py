"""Make one job's attempts and calls, up to an outcome."""
