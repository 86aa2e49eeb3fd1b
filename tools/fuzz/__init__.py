"""Recorded answers, mutated by chance, through the worker; an oracle of its own judges each."""
