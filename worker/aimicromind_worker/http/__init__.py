"""The prediction endpoint over HTTP/1.1."""
