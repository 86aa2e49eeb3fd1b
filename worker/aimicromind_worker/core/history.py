"""What the pool remembers of a job: folded from its milestones in the journal, in their order."""

from dataclasses import dataclass, replace

from aimicromind_schemas import (
    SIDE_EFFECT_EVENTS,
    EndEvent,
    EndStatus,
    ErrorEvent,
    Event,
    FailureKind,
    RetryEvent,
    StartEvent,
)


@dataclass(frozen=True, slots=True)
class History:
    """What is known of one job.

    Attributes:
        last_attempt: Highest attempt that published anything, 0 if none.
        announced: Highest attempt that a `retry` said would follow, 0 if none did.
        calls: Calls that showed something; those that failed silently leave no trace.
        side_effect: Whether a tool or action event was published.
        status: How the job ended, None if it has not.
        kind: Why it failed, if it did.
        message: The same for people.
    """

    last_attempt: int = 0
    announced: int = 0
    calls: int = 0
    side_effect: bool = False
    status: EndStatus | None = None
    kind: FailureKind | None = None
    message: str = ""

    def after(self, event: Event) -> "History":
        """Take in the job's next milestone; nothing follows the first end."""
        if self.status is not None:
            return self
        seen = replace(self, last_attempt=max(self.last_attempt, event.attempt))
        match event:
            case StartEvent():
                # A milestone comes again where the confirm of the first one was lost.
                return replace(seen, calls=seen.calls + (event.attempt > self.last_attempt))
            case RetryEvent():
                return replace(seen, announced=max(self.announced, event.data.next_attempt))
            case ErrorEvent():
                return replace(seen, kind=event.data.kind, message=event.data.message)
            case EndEvent():
                return replace(seen, status=event.data.status)
            case _ if event.event in SIDE_EFFECT_EVENTS and event.data:
                return replace(seen, side_effect=True)
            case _:
                return seen
