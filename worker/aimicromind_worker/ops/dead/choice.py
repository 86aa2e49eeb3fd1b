"""Find the dead letters that an operator means: by short ids, in the queue that was named."""

from collections.abc import Sequence
from dataclasses import replace

from aimicromind_schemas import Names
from aimicromind_worker.amqp.inspection.dead_letters import DeadLetterQueue
from aimicromind_worker.app.broker import needed_topology
from aimicromind_worker.app.broker_settings import BrokerSettings
from aimicromind_worker.core.dead_letters.dead_event import DeadEvent
from aimicromind_worker.core.dead_letters.dead_letter import Choice, DeadLetter
from aimicromind_worker.core.dead_letters.short_ids import matching
from aimicromind_worker.core.findings import NotAchieved

_CANDIDATES_SHOWN = 8


class NoSuchDeadLetter(NotAchieved):
    """No dead letter has the id."""

    def __init__(self, given: str) -> None:
        super().__init__(f"no dead letter has the id {given}: see `aimicromind-worker dead list`")


class AmbiguousId(NotAchieved):
    """A short id is the beginning of several ids."""

    def __init__(self, given: str, candidates: Sequence[str]) -> None:
        more = len(candidates) - _CANDIDATES_SHOWN
        shown = ", ".join(candidates[:_CANDIDATES_SHOWN]) + (f" and {more} more" * (more > 0))
        super().__init__(f"{given} is the beginning of several ids, write more of it: {shown}")


class NotDeadQueue(NotAchieved):
    """The queue holds something else than dead letters."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is a queue of the workers, and not for dead letters")


def queue_of(settings: BrokerSettings, name: str | None, to: str | None) -> DeadLetterQueue:
    """Return the dead-letter queue of a consumer, or that of the jobs.

    Raises:
        NotDeadQueue: It is another queue of the workers, whose messages are no dead letters.
    """
    names = Names(settings.prefix)
    if name is None or name == names.jobs_dead:
        return DeadLetterQueue(names)
    if name in {queue.name for queue in needed_topology(settings).queues}:
        raise NotDeadQueue(name)
    return DeadLetterQueue(names, name, to)


def named_whole(choice: Choice, letters: Sequence[DeadLetter]) -> Choice:
    """Return a choice with whole ids in place of short ones.

    A short id is the beginning of the id of a job, of an event, or of a flow.

    Args:
        choice: What the operator wrote.
        letters: All dead letters of the queue.

    Raises:
        NoSuchDeadLetter: No dead letter has the id.
        AmbiguousId: Several have it.
    """
    job_id, flow = choice.job_id, choice.flow
    if job_id is not None:
        found = matching(job_id, (it.job_id for it in letters))
        job_id = _only(job_id, found or _events(job_id, letters))
    if flow is not None and (flows := matching(flow, (it.chatflow_id for it in letters))):
        flow = _only(flow, flows)
    return replace(choice, job_id=job_id, flow=flow)


def _events(given: str, letters: Sequence[DeadLetter]) -> list[str]:
    """Return the ids of events that a short id fits: of the job, or of all, the beginning."""
    events = [it for it in letters if isinstance(it, DeadEvent)]
    job, _, rest = given.partition(":")
    of_job = {
        it.id
        for it in events
        if rest and it.job_id.startswith(job) and it.id == f"{it.job_id}:{rest}"
    }
    return sorted(of_job) or matching(given, (it.id for it in events))


def _only(given: str, found: Sequence[str]) -> str:
    if not found:
        raise NoSuchDeadLetter(given)
    if len(found) > 1:
        raise AmbiguousId(given, found)
    return found[0]
