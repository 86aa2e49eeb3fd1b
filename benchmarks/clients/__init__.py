"""Client processes of two versions in turns, and what is measured of each."""
