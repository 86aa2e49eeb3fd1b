"""Carry out the commands of operators: doctor, dead letters, topology, follow, demo."""
