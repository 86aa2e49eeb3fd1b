"""Events out: in order, each confirmed, over a connection of their own."""
