from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas.messages.catch_up import (
    CatchUpRequest,
    SeenUpTo,
    Snapshot,
    decode_snapshot,
)
from aimicromind_worker.core.catching_up.kept_events import KeptEvents
from aimicromind_worker.core.catching_up.snapshot import RunningJob, SnapshotWriter
from aimicromind_worker.core.job.numbering import Numbering
from tests.support.builders import MODERATE, an_event

NOON = 1_800_000_000.0
PART = 1_000_000


class Run:
    """An attempt that publishes, and all bodies of it."""

    def __init__(self, attempt: int = 1, most_bytes: int = PART) -> None:
        self.numbering = Numbering("job", "chat", "flow", attempt)
        self.kept = KeptEvents(self.numbering, most_bytes)
        self.running = RunningJob("job", attempt, self.kept)
        self.bodies: list[bytes] = []

    def publish(self, count: int) -> "Run":
        for _ in range(count):
            event = an_event("token", f"word {self.numbering.next_seq} ")
            self.bodies.append(self.numbering.stamp(event, NOON).body)
            self.kept.add(event, NOON)
        return self


def parts_of(
    writer: SnapshotWriter,
    running: RunningJob | None,
    most_bytes: int = PART,
    between: Callable[[], object] = lambda: None,
) -> list[Snapshot]:
    parts = []
    while not writer.is_whole:
        parts.append(decode_snapshot(writer.next_part(running, most_bytes)))
        between()
    return parts


def asking(job_id: str | None = None, after: SeenUpTo | None = None) -> SnapshotWriter:
    return SnapshotWriter(CatchUpRequest("chat", job_id, after))


def test_answer_has_all_events_byte_for_byte() -> None:
    run = Run().publish(20)

    (part,) = parts_of(asking(), run.running)

    assert list(part.events) == run.bodies
    assert (part.job_id, part.chat_id, part.attempt) == ("job", "chat", 1)
    assert (part.part, part.parts, part.complete_from) == (1, 1, None)


@MODERATE
@given(st.integers(0, 60), st.integers(1, 4_000))
def test_parts_together_have_all_events_once_and_the_last_names_itself(
    count: int, most_bytes: int
) -> None:
    run = Run().publish(count)

    parts = parts_of(asking(), run.running, most_bytes)

    assert [body for part in parts for body in part.events] == run.bodies
    assert [part.part for part in parts] == list(range(1, len(parts) + 1))
    assert [part.part == part.parts for part in parts] == [False] * (len(parts) - 1) + [True]


def test_last_part_has_what_was_published_between_the_parts() -> None:
    run = Run().publish(20)

    parts = parts_of(asking(), run.running, 1_500, lambda: run.publish(1))

    published = len(run.bodies) - 1  # the last one follows the answer
    assert [body for part in parts for body in part.events] == run.bodies[:published]


def test_attempt_that_begins_between_the_parts_begins_the_answer_anew() -> None:
    first, second = Run().publish(20), Run(attempt=2).publish(3)
    writer = asking()

    writer.next_part(first.running, 1_000)
    (part,) = parts_of(writer, second.running)

    assert (part.attempt, part.part, part.parts) == (2, 1, 1)
    assert list(part.events) == second.bodies


def test_position_leaves_out_what_the_asker_has() -> None:
    run = Run(attempt=2).publish(5)

    def events_after(attempt: int, seq: int) -> list[bytes]:
        (part,) = parts_of(asking("job", SeenUpTo(attempt, seq)), run.running)
        return list(part.events)

    assert events_after(2, 1) == run.bodies[2:]
    assert events_after(1, 99) == run.bodies
    assert events_after(2, 4) == []
    assert events_after(2, 10**30) == []
    assert events_after(3, 0) == []


def test_other_job_than_asked_for_is_named_and_not_shown() -> None:
    run = Run().publish(5)

    (part,) = parts_of(asking("other"), run.running)

    assert (part.job_id, part.attempt, part.events) == ("job", 1, ())


def test_holder_that_runs_nothing_answers_too() -> None:
    (part,) = parts_of(asking("job"), None)

    assert (part.job_id, part.attempt, part.events) == (None, 0, ())
    assert (part.part, part.parts) == (1, 1)


def test_job_without_an_attempt_is_named() -> None:
    (part,) = parts_of(asking("job"), RunningJob("job"))

    assert (part.job_id, part.attempt, part.events) == ("job", 0, ())


def test_answer_that_would_have_a_gap_says_from_where_on_the_worker_has_events() -> None:
    run = Run(most_bytes=1_000).publish(500)

    (part,) = parts_of(asking("job", SeenUpTo(1, 3)), run.running)
    (rest,) = parts_of(asking("job", SeenUpTo(1, run.kept.first_seq - 1)), run.running)

    assert (part.complete_from, part.events) == (run.kept.first_seq, ())
    assert (rest.complete_from, list(rest.events)) == (None, run.bodies[run.kept.first_seq :])


def test_events_dropped_between_the_parts_make_the_answer_incomplete() -> None:
    run = Run(most_bytes=2_000).publish(50)
    writer = asking("job", SeenUpTo(1, run.kept.first_seq))

    writer.next_part(run.running, 500)
    run.publish(500)
    (part,) = parts_of(writer, run.running)

    assert (part.part, part.parts, part.complete_from) == (1, 1, run.kept.first_seq)
