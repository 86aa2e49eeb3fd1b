"""Read the endpoint's answers: bytes, frames and events, and what its errors mean."""
