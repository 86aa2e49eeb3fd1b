"""The state that travels with a job: written as headers, read by the next worker."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_worker.core.endpoint.usage import UsageCount
from aimicromind_worker.core.job.state import JobState

counts = st.integers(0, 1_000_000)
states = st.builds(
    JobState,
    attempt=counts,
    calls=counts,
    uncounted=counts,
    side_effect=st.booleans(),
    sent=st.booleans(),
    open_attempt=counts,
    was_lost=st.booleans(),
    crashes=counts,
    waits=counts,
    deadline=st.none()
    | st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7))])),
    handle=st.none() | st.just("AQOHrUvAvqDYBjOFJVI"),
    usage=st.builds(UsageCount, *[st.none() | st.integers(0, 10**12)] * 3),
)


@given(states)
def test_next_worker_reads_what_was_written(state: JobState) -> None:
    assert JobState.from_headers(state.to_headers()) == state


@given(states, states)
def test_what_is_written_replaces_what_the_message_carried(old: JobState, new: JobState) -> None:
    again = JobState.from_headers({**old.to_headers(), **new.to_headers()})

    assert again == new or (new.deadline is None and again.deadline == old.deadline)


@pytest.mark.parametrize("odd", ["3", -1, 2.5, None, [1], {"a": 1}, b"\1", datetime.now(UTC)])
def test_ill_typed_headers_count_as_nothing_known(odd: object) -> None:
    names = JobState(deadline=datetime.now(UTC)).to_headers()

    assert JobState.from_headers(dict.fromkeys(names, odd)) == JobState()


def test_made_up_counts_stay_small_enough_to_be_written_again() -> None:
    assert JobState.from_headers({"x-aimicromind-calls": 2**63 - 1}).calls == 1_000_000


@pytest.mark.parametrize("text", ["2030-01-01T00:00:00", "tomorrow", ""])
def test_deadline_without_an_offset_is_no_deadline(text: str) -> None:
    assert JobState.from_headers({"x-aimicromind-deadline": text}).deadline is None
