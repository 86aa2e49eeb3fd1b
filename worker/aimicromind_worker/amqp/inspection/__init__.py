"""Read the state of an installation: reports of workers, counts of queues, dead letters."""
