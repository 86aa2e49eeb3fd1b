"""The schemas take what the codec takes, and refuse what it refuses."""

import copy
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from aimicromind_schemas import (
    ChatCancel,
    GenericEvent,
    InvalidCancel,
    InvalidJob,
    InvalidStatusRequest,
    JobCancel,
    NotAReport,
    PredictionJob,
    decode,
    decode_cancel,
    decode_report,
    decode_status_request,
    event_from,
)
from aimicromind_schemas.messages.catch_up import InvalidCatchUp, decode_catch_up
from tools.contract.places import JSON, examples, read_folder
from tools.contract.schema_files import schema_of_example
from tools.contract.shapes import EXACT_NAMES

VALIDATORS = {name: Draft202012Validator(schema) for name, schema in read_folder(JSON).items()}
EXAMPLES = examples()
EVENTS = {name: it for name, it in EXAMPLES.items() if name.startswith("event.")}
ENVELOPE = ("jobId", "chatId", "chatflowId", "attempt", "seq", "time", "event", "data")
WRONG = {
    "jobId": 7,
    "chatId": None,
    "chatflowId": ["f"],
    "attempt": -1,
    "seq": "0",
    "time": "22 Nov 2026",
    "event": 1,
}
BAD_DATA: dict[str, list[Callable[[dict[str, Any]], object]]] = {
    "end": [
        lambda data: data.update(status="finished"),
        lambda data: data.pop("text"),
        lambda data: data.update(calls=-1),
        lambda data: data.update(tags={"tenant": 1}),
    ],
    "error": [
        lambda data: data.update(kind="bad_luck"),
        lambda data: data.pop("message"),
        lambda data: data.update(httpStatus="401"),
    ],
    "retry": [
        lambda data: data.update(delaySeconds=-0.5),
        lambda data: data.pop("nextAttempt"),
    ],
    "start": [lambda data: data.update(redelivered="no"), lambda data: data.pop("upstream")],
    "other": [lambda data: data.pop("name")],
}
JSON_VALUES: st.SearchStrategy[object] = st.sampled_from(
    (
        *(None, "", [], {}, True, False, 0, 1, -1, 1.5, "x", "a b", "a/b", "f-1", "2026-11-22"),
        *("2026-11-22T13:20:00Z", "2026-11-22T13:20:00+01:00", "2026-11-22T13:20:00"),
        *("json", "job-0"),
        *([1], ["x"], {"a": "b"}, {"a": 1}, {"a": {}}),
    )
)
JOB_FIELDS = ("chatflowId", "question", "chatId", "jobId", "overrideConfig", "form", "uploads")
WORKERS_FIELDS = (
    *("streaming", "timeoutSeconds", "expiresAt", "maxCalls", "maxAttempts", "idempotent", "tags"),
    *("answer", "after"),
)


def refused(schema: str, message: object) -> bool:
    return not VALIDATORS[schema].is_valid(message)


@pytest.mark.parametrize("name", VALIDATORS)
def test_schema_is_json_schema(name: str) -> None:
    Draft202012Validator.check_schema(VALIDATORS[name].schema)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_taken(name: str) -> None:
    VALIDATORS[schema_of_example(name)].validate(EXAMPLES[name])
    if name in EVENTS:
        VALIDATORS["event"].validate(EXAMPLES[name])


@pytest.mark.parametrize("name", EVENTS)
def test_example_is_of_its_class(name: str) -> None:
    event = decode(json.dumps(EVENTS[name]).encode())

    assert isinstance(event, GenericEvent) == (name == "event.generic")


@pytest.mark.parametrize("name", EVENTS)
def test_event_needs_its_whole_envelope(name: str) -> None:
    for member in ENVELOPE:
        message = {key: value for key, value in EVENTS[name].items() if key != member}

        assert refused(name, message), member
        assert refused("event", message), member
        if member in WRONG:
            message[member] = WRONG[member]
            assert refused(name, message), member
            assert refused("event", message), member


@pytest.mark.parametrize("name", EVENTS)
def test_member_of_a_newer_worker_is_taken(name: str) -> None:
    assert not refused(name, EVENTS[name] | {"madeBy": "a newer worker"})


@pytest.mark.parametrize("name", EVENTS)
def test_event_of_another_name_is_refused(name: str) -> None:
    other = "end" if name != "event.end" else "token"

    assert refused(name, EVENTS[name] | {"event": other})


def bad_events() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, changes in BAD_DATA.items():
        for change in changes:
            message = copy.deepcopy(EVENTS[f"event.{name}"])
            change(message["data"])
            yield name, message
    yield "token", EVENTS["event.token"] | {"data": 7}


@pytest.mark.parametrize(("name", "message"), tuple(bad_events()))
def test_exact_data_of_another_shape_is_refused(name: str, message: dict[str, Any]) -> None:
    assert name in EXACT_NAMES
    assert isinstance(event_from(message), GenericEvent)
    assert refused(f"event.{name}", message)
    assert refused("event", message)


def test_endpoint_data_of_another_shape_is_generic() -> None:
    message = EVENTS["event.usedTools"] | {"data": [{"toolName": "calculator"}]}

    assert isinstance(event_from(message), GenericEvent)
    assert refused("event.usedTools", message)
    assert not refused("event", message)


@pytest.mark.parametrize(
    "change",
    [
        {"chatflowId": "a/b"},
        {"chatflowId": None},
        {"question": ""},
        {"question": 7},
        {"jobId": "a b"},
        {"overrideConfig": "sessionId=1"},
        {"chatId": 1.5},
        {"chatId": True},
        {"jobId": 2**63},
        {"timeoutSeconds": 0},
        {"expiresAt": "2026-11-22T13:20:00"},
        {"maxCalls": 0},
        {"idempotent": 1},
        {"tags": {"tenant": 7}},
    ],
)
def test_job_that_the_worker_refuses_is_refused(change: dict[str, Any]) -> None:
    job = EXAMPLES["job"] | change

    with pytest.raises(InvalidJob):
        PredictionJob.decode(json.dumps(job).encode())
    assert refused("job", job)


@given(
    st.dictionaries(st.sampled_from(JOB_FIELDS + WORKERS_FIELDS), JSON_VALUES),
    st.booleans(),
)
def test_schema_and_codec_agree_on_jobs(fields: dict[str, Any], asked: bool) -> None:  # noqa: FBT001
    job = ({"chatflowId": "f", "question": "Why?"} if asked else {}) | fields

    assert VALIDATORS["job"].is_valid(job) == accepts(PredictionJob.decode, InvalidJob, job)


@given(
    st.dictionaries(st.sampled_from(("jobId", "chatId", "more")), JSON_VALUES),
    st.sampled_from((None, "", "2026-11-22T13:20:00Z", "today", 7)),
)
def test_schema_and_codec_agree_on_cancel_requests(
    named: dict[str, Any], submitted_at: object
) -> None:
    request = {"cancel": named, "submittedAt": submitted_at}

    assert VALIDATORS["cancel"].is_valid(request) == accepts(decode_cancel, InvalidCancel, request)


@given(
    st.dictionaries(st.sampled_from(("jobId", "chatId", "more")), JSON_VALUES),
    JSON_VALUES | st.dictionaries(st.sampled_from(("attempt", "seq", "more")), JSON_VALUES),
)
def test_schema_and_codec_agree_on_requests_to_catch_up(
    named: dict[str, Any], after: object
) -> None:
    request = {"catchUp": named | {"after": after}}

    is_valid = VALIDATORS["catchUp"].is_valid(request)
    assert is_valid == accepts(decode_catch_up, InvalidCatchUp, request)


def accepts(read: Callable[[bytes], object], refusal: type[Exception], message: object) -> bool:
    try:
        read(json.dumps(message).encode())
    except refusal:
        return False
    return True


def test_requests_as_the_package_writes_them_are_taken() -> None:
    for request in (JobCancel("j-1"), ChatCancel("c.ü", datetime.now(UTC))):
        VALIDATORS["cancel"].validate(json.loads(request.encode()))


@given(JSON_VALUES | st.dictionaries(st.sampled_from(("jobId", "more")), JSON_VALUES))
def test_schema_and_codec_agree_on_requests_for_the_status(named: object) -> None:
    request = {"status": named}

    is_valid = VALIDATORS["status"].is_valid(request)
    assert is_valid == accepts(decode_status_request, InvalidStatusRequest, request)


@given(st.dictionaries(st.sampled_from(sorted(EXAMPLES["workerReport"])), JSON_VALUES))
def test_schema_and_codec_agree_on_reports_of_workers(changed: dict[str, Any]) -> None:
    report = EXAMPLES["workerReport"] | changed

    is_valid = VALIDATORS["workerReport"].is_valid(report)
    assert is_valid == accepts(decode_report, NotAReport, report)
