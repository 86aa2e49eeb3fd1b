"""The order of a chat's jobs, judged by when the endpoint was first called for each (I9)."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from tests.support.checker.facts import Asked, EndpointCall, Span, Violation, covered
from tests.support.checker.fold import JobFold

# A job waits so long for the one before it where no worker knows that one; less a second of slack.
_UNKNOWN_S = 29.0
# The same from its own arrival, however busy the chat is.
_UNKNOWN_IN_ALL_S = 149.0


def violations_of_order(
    jobs: Mapping[str, JobFold],
    asked: Mapping[str, Asked],
    calls: Sequence[EndpointCall],
    fencing: Sequence[Span],
    delayed: AbstractSet[str] = frozenset(),
) -> Iterator[Violation]:
    """Judge the jobs that name the one before them.

    Such a job may begin before that one where a failure delayed that one, where its chat was idle
    for half a minute, where it waited for 150 s, and while a worker may not have known that it had
    lost its jobs.

    Args:
        jobs: What a consumer was told of each job.
        asked: The jobs.
        calls: All that the endpoint saw.
        fencing: When a worker may not have known yet that it had lost its jobs.
        delayed: Further jobs that a failure delayed.
    """
    made: defaultdict[str, list[EndpointCall]] = defaultdict(list)
    for call in sorted(calls, key=lambda it: it.began):
        made[call.job_id].append(call)
    for job in asked.values():
        if not (job.after and made[job.job_id] and made[job.after]):
            continue
        began, before = made[job.job_id][0].began, made[job.after][-1]
        was_delayed = job.after in delayed or _was_delayed(jobs.get(job.after))
        if before.began <= began or covered(began, fencing) or was_delayed:
            continue
        if began - (job.confirmed_at or began) >= _UNKNOWN_IN_ALL_S:
            continue
        if began - _busy_until(job, made, asked, began) < _UNKNOWN_S:
            late_s = before.began - began
            what = f"it began {late_s:.3f} s before a call of {job.after}, which it comes after"
            yield Violation("I9", what, job.job_id)


def _was_delayed(job: JobFold | None) -> bool:
    """Return whether a job had an attempt that ended in a failure of its own."""
    return job is not None and any(kind != "shutdown" for kind in job.kinds)


def _busy_until(
    job: Asked,
    made: Mapping[str, Sequence[EndpointCall]],
    asked: Mapping[str, Asked],
    began: float,
) -> float:
    """Return when the last call of the chat ended before a job began, or the job was submitted."""
    others = (
        call.ended if call.ended is not None else call.began
        for job_id, of_job in made.items()
        if job_id in asked and asked[job_id].chat_id == job.chat_id
        for call in of_job
        if call.began < began
    )
    return max((job.confirmed_at or 0.0, *(min(ended, began) for ended in others)))
