"""What the endpoint saw, judged by itself and against what a consumer was told of each job."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.support.checker.facts import Asked, EndpointCall, Span, Violation, covered
from tests.support.checker.fold import JobFold, text_digest


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Where a count of calls may honestly differ from what the endpoint saw.

    Attributes:
        interruptions: When workers died, were told to leave, or lost their broker. A call that
            showed nothing before that leaves no trace for the next worker: there are up to three
            of one worker, so that `end.calls` may be less by as many for each interruption in
            the job's life; a call that was begun and did not reach the endpoint any more makes
            it more by one.
        endpoint_down: When calls were begun that the endpoint could not see.
    """

    interruptions: Sequence[Span] = ()
    endpoint_down: Sequence[Span] = ()

    def of(self, since: float, until: float) -> tuple[int, int]:
        """Give by how much `end.calls` may be less and more than the endpoint saw."""
        interrupted = sum(span.meets(since, until) for span in self.interruptions)
        down = any(span.meets(since, until) for span in self.endpoint_down)
        return interrupted * _SILENT_CALLS, _ANY if down else interrupted


_ANY = 1_000_000
# What a worker makes of one job, `MAX_CALLS` by default.
_SILENT_CALLS = 3


def violations_among_calls(
    calls: Sequence[EndpointCall], fencing: Sequence[Span], ended_at: float
) -> Iterator[Violation]:
    """Judge what calls had to do with each other.

    Args:
        calls: All that the endpoint saw.
        fencing: When a worker may not have known yet that it had lost its jobs.
        ended_at: When the run was over; so long lived a call whose end is not known.
    """
    chats: dict[str, EndpointCall] = {}
    conversations: defaultdict[str, list[EndpointCall]] = defaultdict(list)
    for call in calls:
        first = chats.setdefault(call.chat_id, call)
        if first is not call:
            what = f"two calls had the endpoint chatId {call.chat_id}, of {first.job_id} too"
            yield Violation("I5", what, call.job_id)
        conversations[call.session_id].append(call)
    for session_id, of_one in conversations.items():
        alive_until, holder = -1.0, ""
        for call in sorted(of_one, key=lambda it: it.began):
            if call.began < alive_until and not covered(call.began, fencing):
                for_s = alive_until - call.began
                what = f"two live calls of {session_id} for {for_s:.3f} s, the other of {holder}"
                yield Violation("I5", what, call.job_id)
            ended = ended_at if call.ended is None else call.ended
            if ended > alive_until:
                alive_until, holder = ended, call.job_id


def violations_against_calls(
    jobs: Mapping[str, JobFold],
    asked: Mapping[str, Asked],
    calls: Sequence[EndpointCall],
    tolerance: Tolerance,
) -> Iterator[Violation]:
    """Judge what a consumer was told of each job by the calls that were made for it."""
    made: defaultdict[str, list[EndpointCall]] = defaultdict(list)
    for call in calls:
        made[call.job_id].append(call)
    for job_id in made.keys() - asked.keys():
        yield Violation("I5", "a call for a job that nobody asked for", job_id)
    for job_id, job in jobs.items():
        yield from _violations_of_count(job, made[job_id], asked[job_id], tolerance)
        if all(call.says is not None for call in made[job_id]):
            yield from _foreign_tokens(job, [call.says or () for call in made[job_id]])


def _violations_of_count(
    job: JobFold, calls: Sequence[EndpointCall], asked: Asked, tolerance: Tolerance
) -> Iterator[Violation]:
    if job.end is None:
        return
    # Only calls begun before the end can be in it; later ones are of a run after the end.
    since = asked.confirmed_at if asked.confirmed_at is not None else job.times[0]
    less, more = tolerance.of(since, job.end.at)
    counted, seen = job.end.calls, len(calls)
    if not seen - less <= counted <= seen + more:
        fine = f"{less} less or {more} more is fine"
        what = f"end.calls is {counted}; the endpoint saw {seen}, {fine}"
        yield Violation("I3", what, job.job_id, job.end.attempt)


def _foreign_tokens(job: JobFold, says: Sequence[Sequence[str]]) -> Iterator[Violation]:
    for number, attempt in job.attempts.items():
        shown = attempt.text.digest()
        began = any(text_digest(iter(said[: attempt.tokens])) == shown for said in says)
        if attempt.tokens and not began:
            what = f"its {attempt.tokens} tokens are not the beginning of any call's answer"
            yield Violation("I4", what, job.job_id, number)
        completed = (
            job.end is not None and job.end.status == "completed" and job.end.attempt == number
        )
        if completed and not any(text_digest(iter(said)) == shown for said in says):
            what = f"its {attempt.tokens} tokens are not the whole of any call's answer"
            yield Violation("I4", what, job.job_id, number)
