"""Read dead letters of jobs and of events, and the short ids that name them."""
