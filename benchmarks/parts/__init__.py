"""Processes around a worker: a cheap endpoint, a consumer that counts, CPU and memory."""
