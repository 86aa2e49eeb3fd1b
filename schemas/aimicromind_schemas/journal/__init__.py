"""The journal: what workers record of jobs, and what whoever follows it knows of them."""
