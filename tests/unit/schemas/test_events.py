from datetime import UTC, datetime
from typing import get_args

import pytest
from pydantic import ValidationError

from aimicromind_schemas import (
    EVENT_NAMES,
    OUTPUT_EVENTS,
    SIDE_EFFECT_EVENTS,
    TERMINAL,
    EndEvent,
    KnownEvent,
    NotAnEvent,
    StartData,
    StartEvent,
    event_from,
)
from tests.unit.schemas.samples import END, SECRET, an_event, fields
from tests.unit.schemas.strategies import DATA


def test_each_name_of_the_contract_has_one_class() -> None:
    names = [event_class.model_fields["event"].default for event_class in get_args(KnownEvent)]

    assert sorted(names) == sorted(EVENT_NAMES) == sorted(DATA)


def test_sets_of_names_are_those_of_the_contract() -> None:
    assert {"end"} == TERMINAL
    assert {"usedTools", "calledTools", "tool", "action"} == SIDE_EFFECT_EVENTS
    assert {"token", "sourceDocuments", "artifacts"} == OUTPUT_EVENTS - SIDE_EFFECT_EVENTS
    assert SIDE_EFFECT_EVENTS | OUTPUT_EVENTS | TERMINAL <= EVENT_NAMES


def test_additions_of_a_newer_worker_are_skipped() -> None:
    event = event_from(fields("end", END | {"cost": 1}, region="eu"))

    assert isinstance(event, EndEvent)
    assert event == an_event("end", END)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("jobId", 1),
        ("chatId", None),
        ("chatflowId", []),
        ("attempt", "1"),
        ("attempt", -1),
        ("attempt", True),
        ("seq", 1.5),
        ("time", "2026-11-22T13:20:00"),
        ("time", 1795355994),
        ("time", None),
        ("event", 7),
        ("event", None),
        ("event", ["token"]),
    ],
)
def test_ill_typed_envelope_is_not_an_event(member: str, value: object) -> None:
    with pytest.raises(NotAnEvent) as caught:
        event_from(fields("token", "a", **{member: value}))

    assert caught.value.unreadable == (member,)


@pytest.mark.parametrize("member", sorted(fields("token", "a")))
def test_incomplete_envelope_is_not_an_event(member: str) -> None:
    incomplete = fields("token", SECRET)
    del incomplete[member]

    with pytest.raises(NotAnEvent) as caught:
        event_from(incomplete)

    assert caught.value.unreadable == (member,)
    assert SECRET not in str(caught.value)


def test_snake_case_names_are_for_python_and_not_for_the_wire() -> None:
    snake = fields("token", "a")
    snake["job_id"] = snake.pop("jobId")

    with pytest.raises(NotAnEvent):
        event_from(snake)


def test_events_are_made_in_python_by_attribute_name() -> None:
    event = StartEvent(
        job_id="j",
        chat_id="c",
        chatflow_id="f",
        attempt=1,
        seq=0,
        time=datetime(2026, 11, 22, tzinfo=UTC),
        data=StartData(tags={}, redelivered=False, upstream=None),
    )

    assert event.event == "start"
    with pytest.raises(ValidationError):
        event.seq = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("token", SECRET),
        ("usedTools", [{"tool": SECRET, "toolInput": {SECRET: SECRET}}]),
        ("metadata", {"question": SECRET, SECRET: SECRET}),
        ("end", END | {"text": SECRET, "tags": {SECRET: SECRET}}),
        ("error", {"kind": "internal", "message": SECRET}),
        ("own", {"x": SECRET}),
    ],
)
def test_content_is_in_no_repr(name: str, data: object) -> None:
    event = an_event(name, data)

    assert SECRET not in repr(event) + str(event)
    assert f"(job_id='j', attempt=1, seq=3, event='{name}')" in repr(event)


def test_content_is_in_no_repr_of_data_either() -> None:
    metadata = an_event("metadata", {"question": SECRET, SECRET: SECRET})
    end = an_event("end", END | {"text": SECRET})

    assert (repr(metadata.data), repr(end.data)) == ("Metadata()", "EndData()")
