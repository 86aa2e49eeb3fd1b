"""List, show, replay and purge dead letters."""
