from itertools import groupby
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas import Event, Gap, Position, Reader, event_from
from tests.unit.schemas.samples import END, fields


def _event(attempt: int, seq: int, job: str = "j") -> Event:
    return event_from(fields("token", f"{attempt}.{seq}", attempt=attempt, seq=seq, jobId=job))


def _end(attempt: int, seq: int, job: str = "j") -> Event:
    return event_from(fields("end", END, attempt=attempt, seq=seq, jobId=job))


@st.composite
def _jobs(draw: st.DrawFn, job: str = "j") -> list[Event]:
    """All events of a job in the order of publishing."""
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    events = [_event(n, seq, job) for n, size in enumerate(lengths, 1) for seq in range(size)]
    return [*events, _end(len(lengths), lengths[-1], job)]


def _read(events: list[Event], reader: Reader | None = None) -> list[Event | Gap]:
    reader = reader or Reader()
    return [item for event in events for item in reader.take(event)]


@given(_jobs(), st.data())
def test_repeats_change_nothing(published: list[Event], data: st.DataObject) -> None:
    came: list[Event] = []
    for event in published:
        came += [event, *data.draw(st.lists(st.sampled_from([*came, event]), max_size=3))]

    assert _read(came) == published


@given(_jobs(), st.data())
def test_what_did_not_come_is_told_once(published: list[Event], data: st.DataObject) -> None:
    kept = data.draw(
        st.lists(st.sampled_from(published), unique_by=lambda it: (it.attempt, it.seq))
    )
    came = sorted(kept, key=lambda it: (it.attempt, it.seq))

    shown = _read(came)

    assert [item for item in shown if not isinstance(item, Gap)] == came
    for attempt, items in groupby(shown, key=lambda item: item.attempt):
        seqs = [seq for item in items for seq in _seqs(item)]
        assert seqs == list(range(len(seqs))), attempt


@given(_jobs(), st.data())
def test_reading_goes_on_after_a_position(published: list[Event], data: st.DataObject) -> None:
    last = data.draw(st.integers(0, len(published) - 2))
    reader = Reader()
    reader.resume("j", Position(published[last].attempt, published[last].seq))

    assert _read(published, reader) == published[last + 1 :]


@given(_jobs("a"), _jobs("b"), st.randoms())
def test_jobs_are_read_apart(one: list[Event], other: list[Event], random: Any) -> None:  # noqa: ANN401 - hypothesis does not say
    mixed = [it for pair in _shuffled(one, other, random) for it in pair]

    shown = _read(mixed)

    assert [item for item in shown if item.job_id == "a"] == one
    assert [item for item in shown if item.job_id == "b"] == other


@given(_jobs(), st.integers(1, 5), st.integers(0, 5))
def test_nothing_follows_the_end(published: list[Event], attempt: int, seq: int) -> None:
    reader = Reader()
    _read(published, reader)

    assert reader.take(_event(attempt, seq)) == []
    assert reader.take(_end(attempt, seq)) == []
    assert reader.ended("j")


@given(_jobs(), st.data())
def test_known_is_what_would_be_dropped(published: list[Event], data: st.DataObject) -> None:
    reader = Reader()
    for event in data.draw(st.lists(st.sampled_from(published), max_size=20)):
        known = reader.knows(event)

        assert (reader.take(event) == []) is known


def test_older_attempt_is_dropped_once_a_newer_one_began() -> None:
    first, second = _event(1, 0), _event(2, 0)

    assert _read([first, second, _event(1, 1)]) == [first, second]


def test_end_of_an_older_attempt_ends_the_job() -> None:
    newer, end = _event(2, 0), _end(1, 7)

    assert _read([newer, end, _event(2, 1)]) == [newer, end]


def test_positions_of_old_jobs_are_forgotten() -> None:
    reader = Reader(jobs_kept=2)
    _read([_event(1, 0, job) for job in "abc"], reader)

    assert [reader.seen(job) for job in "abc"] == [False, True, True]


def _seqs(item: Event | Gap) -> list[int]:
    return list(item.missing) if isinstance(item, Gap) else [item.seq]


def _shuffled(one: list[Event], other: list[Event], random: Any) -> list[list[Event]]:  # noqa: ANN401 - hypothesis does not say
    """Mix two sequences, keeping the order of each."""
    picks = [0] * len(one) + [1] * len(other)
    random.shuffle(picks)
    rest = [iter(one), iter(other)]
    return [[next(rest[pick])] for pick in picks]
