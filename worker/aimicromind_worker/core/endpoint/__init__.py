"""The endpoint's answers: bytes to frames to events, and what its errors mean."""
