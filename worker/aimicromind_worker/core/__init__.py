"""Decide what a job and the endpoint's answers mean, from values alone.

Nothing here opens a socket, reads a clock or draws a random number: time, chance and bytes are
arguments. Import rules in the root pyproject.toml enforce that.
"""
