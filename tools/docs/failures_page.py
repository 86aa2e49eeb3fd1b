"""Write the page of failures, docs/failures.md."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import takewhile
from typing import Any, Final

from aimicromind_schemas import FailureKind
from aimicromind_worker.core.endpoint.call_failed import CallFailed
from aimicromind_worker.core.endpoint.errors import StreamCut
from aimicromind_worker.core.job.retry import CallAgain, Decision, GiveUp, NewAttempt, Requeue
from tools.docs.failure_cases import CALL_CASES, OWN_CASES, CallCase, OwnCase
from tools.docs.failure_facts import (
    AFTER_OUTPUT,
    AFTER_TOOL,
    BEFORE_OUTPUT,
    MAX_CALLS,
    POLICY,
    Course,
    course,
    failed,
    settled,
    statuses,
)

_LONGEST_STAY: Final = f"{POLICY.longest_stay.total_seconds():g} s"
_LONGEST_ASKED: Final = f"{POLICY.longest_retry_after.total_seconds():g} s"
_HEAD: Final = f"""\
# Failures

<!-- Written by `make docs` from the code; the sentences are in tools/docs/failure_cases.py. -->

The kind is in `error` and `retry` events, in the header `x-aimicromind-kind` of a dead letter, and
in labels of metrics. The tables are computed from `core/job/retry.py` and `jobs/settlement.py`
with the default settings.

| word | meaning |
|---|---|
| before output | no token, source document, tool, artifact or action was published |
| after output | one was published, in this attempt |
| after a tool | a tool or action was published, in any attempt |
| same attempt | another call, invisible to consumers |
| new attempt | a `retry` event, then another call, whose events begin with `start` |
| delay queue | a `retry` event; the job waits on the broker, then a new attempt |
| saved answer | the server's saved answer is read and published: [endpoint.md](endpoint.md) |
| fails | `error`, `end`, and a dead letter: [operations.md](operations.md#a-job-failed) |
| — | cannot happen: the failure comes before the response |

A wait with ≤ is random, up to that value. A wait over {_LONGEST_STAY} is spent in a delay queue.
A wait that the endpoint asks for is added, up to {_LONGEST_ASKED}. A job has at most `maxCalls`
calls, else `AIMICROMIND_MAX_CALLS` ({MAX_CALLS}).

## A call failed

For a job without `idempotent`.
"""
_OWN: Final = """
## The worker ends or requeues a job itself
"""
_IDEMPOTENT: Final = """
## What the job allows

For `stream_cut`. Other failures of a sent request are the same, if they allow a second call.
"""
_CRASH: Final = """
The crash of a worker is not a failure of a call: [how-it-works.md](how-it-works.md#a-worker-dies).
"""
_DELIVERIES: Final = {
    "ack": "acknowledged",
    "dead-letter": "dead letter",
    "requeue": "back to the queue",
}


def failures_page() -> str:
    """Return the page."""
    columns = "before output | after output | after a tool | delays and calls | `end.status`"
    calls = [f"| kind | cause | {columns} | remedy |", "|---|---|---|---|---|---|---|---|"]
    own = [
        "| kind | cause | events | the job | `end.status` | remedy |",
        "|---|---|---|---|---|---|",
    ]
    says = ["| the job says | before output | after output | after a tool |", "|---|---|---|---|"]
    calls += [_row(*_of_call(case)) for case in _in_order()]
    own += [_row(*_of_worker(case)) for case in OWN_CASES]
    parts = (
        (_HEAD, calls),
        (_OWN, own),
        (_IDEMPOTENT, [*says, *_by_what_is_said()]),
    )
    return "".join(f"{head}\n" + "\n".join(rows) + "\n" for head, rows in parts) + _CRASH


def _in_order() -> list[CallCase]:
    kinds = list(FailureKind)
    return sorted(CALL_CASES, key=lambda case: kinds.index(case.failure.kind))


def _of_call(case: CallCase) -> Iterator[str]:
    failure = case.failure
    before, after, tool = (
        replace(it, key_refused=case.key_refused)
        for it in (BEFORE_OUTPUT, AFTER_OUTPUT, AFTER_TOOL)
    )
    first = course(failure, before)
    yield f"`{failure.kind}`"
    yield case.cause
    yield _in_words(first.decisions[0], failure)
    for situation in (after, tool):
        yield "—" if case.early else _after_output(course(failure, situation), failure)
    yield _delays(first, failure)
    ends = [failed(failure.kind).status]
    if first.is_endless:
        ends.append(failed(FailureKind.EXPIRED).status)
    yield " or ".join(f"`{end}`" for end in ends)
    yield case.remedy


def _of_worker(case: OwnCase) -> Iterator[str]:
    seen = settled(case.kind)
    yield f"`{case.kind}`"
    yield case.cause
    yield ", ".join(f"`{name}`" for name in seen.events)
    yield _DELIVERIES[seen.delivery]
    yield " or ".join(f"`{end}`" for end in statuses(case.kind)) or "none"
    yield case.remedy


def _by_what_is_said() -> Iterator[str]:
    cut = StreamCut("x")
    said: dict[str, dict[str, Any]] = {
        "nothing": {},
        "`idempotent: true`": {"idempotent": True},
        "`idempotent: false`": {"idempotent": False},
        '`answer: "json"`': {"blind": True},
    }
    for words, changed in said.items():
        blind = "blind" in changed
        situations = [replace(it, **changed) for it in (BEFORE_OUTPUT, AFTER_OUTPUT, AFTER_TOOL)]
        before, *later = (course(cut, it) for it in situations)
        first = _after_output(before, cut) if blind else _in_words(before.decisions[0], cut)
        rest = ["—", "—"] if blind else [_after_output(it, cut) for it in later]
        yield _row(words, first, *rest)


def _after_output(found: Course, failure: CallFailed) -> str:
    """Return what follows where the server may have saved the answer, which is read first."""
    words = _in_words(found.decisions[0], failure)
    return f"saved answer, else {words}" if failure.run_goes_on else words


def _in_words(decision: Decision, failure: CallFailed) -> str:
    match decision:
        case CallAgain():
            return "same attempt"
        case NewAttempt():
            return "new attempt"
        case Requeue():
            return "delay queue"
        case GiveUp(kind):
            return "fails" if kind == failure.kind else f"fails: `{kind}`"


def _delays(found: Course, failure: CallFailed) -> str:
    if not found.is_endless:
        waits = ", ".join(_wait(it) for it in found.decisions[:-1])
        calls = f"{found.calls} call{'s' * (found.calls != 1)}"
        return f"{waits}; {calls}" if waits else calls
    until_left = takewhile(lambda it: not isinstance(it, Requeue), found.decisions)
    turns = list(until_left)
    waits = ", ".join(_wait(it) for it in found.decisions[: len(turns) + 1])
    return f"{waits}, and again until the job's time ends; no call counts"


def _wait(decision: Decision) -> str:
    match decision:
        case CallAgain(after) | NewAttempt(after):
            return f"≤ {_seconds(after)}"
        case Requeue(after):
            return f"{_seconds(after)} in a delay queue"
        case GiveUp():
            return ""


def _seconds(wait: timedelta) -> str:
    return f"{wait.total_seconds():g} s"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
