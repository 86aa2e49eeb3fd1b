"""A prediction endpoint that answers by scripts and recordings."""
