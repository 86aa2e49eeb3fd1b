"""Figures of a run, as tables, goals and a chart."""
