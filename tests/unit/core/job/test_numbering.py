import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas import (
    EndEvent,
    EndStatus,
    ErrorEvent,
    Event,
    FailureKind,
    GenericEvent,
    RetryEvent,
    ThinkingEvent,
    decode,
    encode,
)
from aimicromind_worker.core.endpoint.frames import EndpointEvent
from aimicromind_worker.core.endpoint.usage import UsageCount
from aimicromind_worker.core.job.numbering import Numbering
from aimicromind_worker.core.job.worker_events import (
    Shown,
    Tally,
    end_event,
    error_event,
    retry_event,
)
from tests.support.builders import BRIEF, an_event, as_stamped
from tests.unit.core.endpoint.any_event import any_event
from tests.unit.schemas.strategies import texts

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
TALLY = Tally(attempts=2, calls=3, events=7, duration=timedelta(seconds=1.2345678), recovered=True)
FULL = Shown(b'"Once"', UsageCount(1, 2, 3), waits_for_human=True, whole=b'{"text":"Once"}')


def a_numbering(attempt: int = 1) -> Numbering:
    return Numbering("job", "chat", "flow", attempt)


def members(body: bytes) -> list[tuple[str, object]]:
    """Read a JSON object with its members in their order."""
    pairs: list[tuple[str, object]] = json.loads(body, object_pairs_hook=list)
    return pairs


def published(event: EndpointEvent) -> Event:
    return decode(a_numbering().stamp(event, NOON).body)


def test_events_are_numbered_from_0_without_gap() -> None:
    numbering = a_numbering()

    stamped = [numbering.stamp(an_event("token", str(n)), NOON + n / 7) for n in range(300)]

    assert [event.seq for event in stamped] == list(range(300))
    assert [decode(event.body).seq for event in stamped] == list(range(300))
    assert numbering.next_seq == 300


@pytest.mark.parametrize("attempt", [0, 1, 12345])
def test_message_id_names_job_attempt_and_seq_and_an_end_only_the_job(attempt: int) -> None:
    numbering = Numbering("job.1", "chat", "flow", attempt)
    numbering.next_seq = 98

    stamped = [numbering.stamp(an_event(name, ""), NOON) for name in ("token", "retry", "end")]

    assert [event.message_id.decode() for event in stamped] == [
        f"job.1:{attempt}:98",
        f"job.1:{attempt}:99",
        "job.1:end",
    ]


@BRIEF
@given(any_event)
def test_body_is_that_of_the_codec(event: Event) -> None:
    stamped = as_stamped(event)

    reread = decode(stamped.body)
    written = encode(event).body
    assert reread == event
    assert type(reread) is type(event)
    assert json.loads(stamped.body) == json.loads(written)
    assert [name for name, _ in members(stamped.body)] == [name for name, _ in members(written)]


@BRIEF
@given(texts, st.floats(0, 1e12))
def test_duration_stands_beside_the_data(text: str, duration: float) -> None:
    data, seconds = json.dumps(text).encode(), json.dumps(duration).encode()

    event = published(EndpointEvent("thinking", data, seconds))

    assert isinstance(event, ThinkingEvent)
    assert (event.data, event.duration) == (text, duration)


@BRIEF
@given(st.floats(0, 4e9))
def test_time_is_that_of_the_stamp_to_the_microsecond(at: float) -> None:
    stamped = a_numbering().stamp(an_event("token", ""), at)

    time = decode(stamped.body).time.timestamp()
    assert abs(time - at) < 2e-6
    assert stamped.second == int(at)


def test_time_moves_on_within_and_between_seconds() -> None:
    numbering = a_numbering()

    bodies = [
        numbering.stamp(an_event("token", ""), NOON + ms / 1000).body
        for ms in (0, 250, 999.5, 1000)
    ]

    assert [json.loads(body)["time"][11:] for body in bodies] == [
        "12:00:00.000000Z",
        "12:00:00.250000Z",
        "12:00:00.999500Z",
        "12:00:01.000000Z",
    ]


def test_a_flow_may_use_any_number_of_names() -> None:
    numbering = a_numbering()
    names = [f'n"{n % 700}' for n in range(1400)]

    stamped = [numbering.stamp(an_event(name, n), NOON) for n, name in enumerate(names)]

    assert [decode(event.body).event for event in stamped] == names


def test_retry_says_why_and_what_follows() -> None:
    kind, delay = FailureKind.STREAM_CUT, timedelta(seconds=1.23456)

    event = published(retry_event(kind, 'cut "here"\u2028', 2, delay))

    assert isinstance(event, RetryEvent)
    assert event.wire()["data"] == {
        "kind": "stream_cut",
        "message": 'cut "here"\u2028',
        "nextAttempt": 2,
        "delaySeconds": 1.235,
    }


@pytest.mark.parametrize(("status", "member"), [(None, {}), (429, {"httpStatus": 429})])
def test_error_names_the_status_where_there_was_one(
    status: int | None, member: dict[str, int]
) -> None:
    event = published(error_event(FailureKind.RATE_LIMITED, "busy", status))

    assert isinstance(event, ErrorEvent)
    assert event.wire()["data"] == {"kind": "rate_limited", "message": "busy"} | member


@pytest.mark.parametrize("status", EndStatus)
def test_end_counts_and_carries_the_text(status: EndStatus) -> None:
    event = published(end_event(status, TALLY, Shown('"a\\n\u2028😀"'.encode()), {"team": "blue"}))

    assert isinstance(event, EndEvent)
    assert event.wire()["data"] == {
        "status": status.value,
        "attempts": 2,
        "calls": 3,
        "events": 7,
        "durationSeconds": 1.234568,
        "text": "a\n\u2028😀",
        "recovered": True,
        "tags": {"team": "blue"},
    }


def test_end_says_what_was_asked_for_and_what_the_endpoint_told() -> None:
    event = published(end_event(EndStatus.COMPLETED, TALLY, FULL, {}))

    assert isinstance(event, EndEvent)
    assert event.data.answer == {"text": "Once"}
    assert event.data.usage is not None
    assert (event.data.usage.input, event.data.usage.output, event.data.usage.total) == (1, 2, 3)
    assert event.data.waits_for == "human"


@pytest.mark.parametrize(
    "event",
    [
        retry_event(FailureKind.TIMEOUT, "late", 3, timedelta(seconds=60)),
        error_event(FailureKind.BAD_REQUEST, "no", 400),
        error_event(FailureKind.INTERNAL, "no"),
        end_event(EndStatus.EXPIRED, TALLY, Shown(), {"b": "1", "a": "2"}),
        end_event(EndStatus.COMPLETED, TALLY, FULL, {}),
    ],
    ids=lambda event: event.name,
)
def test_members_of_worker_events_are_in_the_codecs_order(event: EndpointEvent) -> None:
    body = a_numbering().stamp(event, NOON).body

    assert members(body) == members(encode(decode(body)).body)


@pytest.mark.parametrize(
    ("name", "data"), [("token", 5), ("end", "[DONE]"), ("flow_event", {"x": [None]})]
)
def test_data_of_any_shape_travels_as_it_is(name: str, data: object) -> None:
    event = published(an_event(name, data))

    assert isinstance(event, GenericEvent)
    assert (event.event, event.data) == (name, data)
