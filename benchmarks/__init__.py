"""Measurements of the worker beside its peers: `make bench`."""
