"""One file per outside system: its calls and errors on one side, our own on the other.

Adapters translate. What to do about what they report is decided in `relay` and `core`.
"""
