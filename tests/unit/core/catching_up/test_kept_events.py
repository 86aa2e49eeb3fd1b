import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_worker.core.catching_up.kept_events import KeptEvents
from aimicromind_worker.core.endpoint.frames import EndpointEvent
from aimicromind_worker.core.job.numbering import Numbering
from tests.support.builders import MODERATE, an_event

NOON = 1_800_000_000.0
PLENTY = 1_000_000

json_texts = st.text(max_size=60).map(lambda text: an_event("token", text).data)
odd_data = st.sampled_from(
    (
        b"null",
        b'"\\ud83d"',
        b'"\\u0000\\n"',
        b'{\n  "a": [1,\r\n 2]}',
        b"[" * 1_500 + b"]" * 1_500,
        b'"' + b"x" * 100_000 + b'"',
        '"ünïcode \U0001f600"'.encode(),
    )
)
names = st.sampled_from(("token", "thinking", "usedTools", "end")) | st.text(min_size=1, max_size=9)
endpoint_events = st.builds(
    EndpointEvent,
    names,
    json_texts | odd_data,
    duration=st.sampled_from((b"", b"0.25")),
    truncated_bytes=st.sampled_from((0, 0, 7_000_000)),
)
times = st.floats(0, 4_000_000_000, allow_nan=False)
published = st.lists(st.tuples(endpoint_events, times), max_size=30)


def an_attempt(most_bytes: int = PLENTY) -> tuple[Numbering, KeptEvents]:
    numbering = Numbering("job", "chat.ü", "flow", 3)
    return numbering, KeptEvents(numbering, most_bytes)


def tokens(kept: KeptEvents, numbering: Numbering, count: int) -> list[bytes]:
    """Keep so many tokens, and return the bodies that are published of them."""
    bodies = []
    for number in range(count):
        event = an_event("token", f"word {number} ")
        bodies.append(numbering.stamp(event, NOON + number / 7).body)
        kept.add(event, NOON + number / 7)
    return bodies


@MODERATE
@given(published)
def test_bodies_are_those_that_were_published_byte_for_byte(
    events: list[tuple[EndpointEvent, float]],
) -> None:
    numbering, kept = an_attempt()

    bodies = []
    for event, at in events:
        bodies.append(numbering.stamp(event, at).body)
        kept.add(event, at)

    assert list(kept.bodies(0, kept.next_seq)) == bodies
    assert kept.next_seq == numbering.next_seq


@MODERATE
@given(published, st.integers(0, 3_000))
def test_what_is_dropped_beyond_the_bound_is_the_oldest(
    events: list[tuple[EndpointEvent, float]], most_bytes: int
) -> None:
    numbering, kept = an_attempt(most_bytes)

    bodies = []
    for event, at in events:
        bodies.append(numbering.stamp(event, at).body)
        kept.add(event, at)
        assert kept.next_seq == len(bodies)
        assert list(kept.bodies(kept.first_seq, kept.next_seq)) == bodies[kept.first_seq :]


def test_events_within_the_bound_are_all_kept() -> None:
    numbering, kept = an_attempt(most_bytes=100 * (17 + len('"word 99 "')))

    tokens(kept, numbering, 100)

    assert kept.first_seq == 0


def test_events_beyond_the_bound_leave_three_quarters_of_it() -> None:
    numbering, kept = an_attempt(most_bytes=27 * 1_000)

    bodies = tokens(kept, numbering, 20_000)

    assert 700 < kept.next_seq - kept.first_seq <= 1_000
    assert kept.bodies(kept.first_seq, 20_000) == tuple(bodies[kept.first_seq :])


def test_names_of_a_flow_that_never_repeats_one_are_kept_too() -> None:
    numbering, kept = an_attempt()

    bodies = []
    for number in range(600):
        event = an_event(f"step {number}", number)
        bodies.append(numbering.stamp(event, NOON).body)
        kept.add(event, NOON)

    assert list(kept.bodies(0, 600)) == bodies


def test_record_of_a_milestone_leaves_no_gap() -> None:
    numbering, kept = an_attempt()
    event = an_event("token", "Once")

    numbering.record(an_event("start", {}), NOON)
    body = numbering.stamp(event, NOON).body
    kept.add(event, NOON)

    assert kept.bodies(0, 1) == (body,)


@pytest.mark.parametrize("most_bytes", [1, 900, 5_000, 10_000_000])
def test_parts_have_about_the_bytes_asked_for_and_one_event_at_least(most_bytes: int) -> None:
    numbering, kept = an_attempt()
    bodies = tokens(kept, numbering, 100)

    parts, seq = [], 0
    while seq < kept.next_seq:
        end = kept.end_of(seq, most_bytes)
        parts.append(kept.bodies(seq, end))
        seq = end

    assert [body for part in parts for body in part] == bodies
    assert all(len(part) == 1 or sum(map(len, part)) <= most_bytes for part in parts)


def test_cleared_attempt_goes_on_with_its_next_event() -> None:
    numbering, kept = an_attempt()
    tokens(kept, numbering, 10)

    kept.clear()
    bodies = tokens(kept, numbering, 2)

    assert (kept.first_seq, kept.next_seq) == (10, 12)
    assert kept.bodies(10, 12)[0].startswith(bodies[0][:60])
