"""The jobs of a run of the model, and the faults that it has."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Job:
    """A job of the model.

    Attributes:
        job_id: Its id.
        chat_id: Its chat.
        delivered_s: When a worker first gets it.
        takes_s: How long it runs.
        after: The job before it, if it is named.
        fails: Whether its first run ends in a delay of two seconds.
    """

    job_id: str
    chat_id: str
    delivered_s: float
    takes_s: float
    after: str = ""
    fails: bool = False


@dataclass(frozen=True, slots=True)
class Faults:
    """How bad the world is.

    Attributes:
        latency_s: Longest time of one way to the broker.
        lost: Part of all messages that are lost.
        crashes_every_s: Mean time between crashes of workers; 0: none.
        noticed_s: How long the broker keeps what a crashed worker had.
    """

    latency_s: float = 0.004
    lost: float = 0.0
    crashes_every_s: float = 0.0
    noticed_s: float = 0.5
