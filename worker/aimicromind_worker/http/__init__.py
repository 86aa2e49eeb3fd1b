"""Speak HTTP/1.1 to the prediction endpoint."""
