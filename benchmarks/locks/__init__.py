"""The chat lock of the worker, and other locks that a broker can give."""
