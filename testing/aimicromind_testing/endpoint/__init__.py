"""A prediction endpoint that answers by scripts and by recordings of a real server."""
