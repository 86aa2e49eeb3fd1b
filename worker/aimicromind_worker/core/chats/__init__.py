"""Decide whose turn it is in a chat, over all workers."""
