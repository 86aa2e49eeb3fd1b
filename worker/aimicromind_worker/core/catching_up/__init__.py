"""Keep the events of a running attempt, and answer followers that come late with them."""
