"""Count jobs and tokens by flow, with a bounded number of flows.

Flows are named by whoever submits jobs. Thus a flow has a label of its own only once a job of it
completed, and only the first 100 flows have one; all others are counted together as `other`.
"""

from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import Counter

MOST_FLOWS: Final = 100
OTHER: Final = "other"


class FlowCounts:
    """Counters by flow. One for the process."""

    def __init__(self, counter: Callable[..., Counter]) -> None:
        """Begin at zero.

        Args:
            counter: Returns a counter for a name, a description and the names of labels.
        """
        self._named: set[str] = set()
        self._jobs = counter("flow_jobs", "Jobs that left this worker, by flow", "flow", "outcome")
        about = "Tokens that the model's provider counted, by flow"
        self._tokens = counter("usage_tokens", about, "flow", "direction")

    def job_left(self, flow: str, outcome: str, tokens: Mapping[str, int]) -> None:
        """Record a job that was settled or requeued, and the tokens of its calls here.

        Args:
            flow: Its `chatflowId`.
            outcome: A word of a closed list.
            tokens: Numbers of tokens by direction.
        """
        if outcome == "completed" and len(self._named) < MOST_FLOWS:
            self._named.add(flow)
        label = flow if flow in self._named else OTHER
        self._jobs.labels(label, outcome).inc()
        for direction, count in tokens.items():
            self._tokens.labels(label, direction).inc(count)
