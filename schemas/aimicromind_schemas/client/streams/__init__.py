"""Read streams: any of them, a stream up to now, and the journal for as long as it grows."""
