"""The pure core: bytes and values in, values out.

Nothing here opens a socket, reads a clock or draws a random number: time, chance and bytes
are arguments. The import rules in the root pyproject.toml hold it to that.
"""
