"""Publish events: in order, each confirmed, on connections of their own."""
