"""Numbers of jobs and calls, as `jobs/` and `runs/` give them; `metrics` keeps them."""

from datetime import timedelta
from typing import Protocol


class Meter(Protocol):
    """Takes numbers in. Its methods cost microseconds and never fail."""

    def job_left(self, outcome: str, kind: str, took: timedelta) -> None:
        """Record that a job was settled, or goes on elsewhere; `kind` is empty for a success."""

    def call_begun(self) -> None:
        """Record a prediction call."""

    def call_failed(self, kind: str) -> None:
        """Record that a call that was begun gave no good answer."""

    def first_output(self, after: timedelta) -> None:
        """Record how long an attempt took to show anything."""

    def confirmed(self, after: timedelta) -> None:
        """Record how long the broker took to confirm the end of a job."""

    def recovered(self) -> None:
        """Record that an answer was read instead of asked for again."""
