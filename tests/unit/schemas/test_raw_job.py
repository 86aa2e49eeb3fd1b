"""The worker's way of reading a job and that of producers agree."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas import InvalidJob, PredictionJob, RawJob
from aimicromind_schemas.messages.job_terms import JobTerms
from aimicromind_schemas.wire import load_json
from tests.unit.schemas.samples import SECRET, body
from tests.unit.schemas.strategies import UNHURRIED, jobs, json_values

NAMES = [str(field.alias) for field in PredictionJob.model_fields.values()]
ODD_VALUES = st.sampled_from(
    (
        *(0, 1, 1.0, 2.5, -1, 12345, 2**63, 1e18, True, False, None, "", " ", [], {}, "true"),
        *("json", "2026-11-22T13:20:00Z", "x", "a b", [1], ["a"], {"a": "b"}, {"a": 1}, "\ud83d"),
    )
)
odd_jobs = st.dictionaries(st.sampled_from(NAMES), ODD_VALUES | json_values).map(
    lambda fields: {"chatflowId": "f", "question": "Why?"} | fields
)


def read_as(kind: type[RawJob | PredictionJob], raw: bytes) -> RawJob | PredictionJob | str:
    try:
        return kind.read(raw) if issubclass(kind, RawJob) else kind.decode(raw)
    except InvalidJob as error:
        return str(error)


@UNHURRIED
@given(jobs() | odd_jobs | st.dictionaries(st.sampled_from(NAMES), ODD_VALUES))
def test_worker_and_producers_read_the_same(fields: dict[str, Any]) -> None:
    raw = json.dumps(fields).encode()

    worker, producer = read_as(RawJob, raw), read_as(PredictionJob, raw)

    if isinstance(worker, str):
        assert worker == producer
        return
    assert isinstance(producer, PredictionJob)
    assert isinstance(worker, RawJob)
    for name in JobTerms.model_fields:
        assert getattr(worker, name) == getattr(producer, name), name
    sent = producer.endpoint_fields()
    override = sent.pop("overrideConfig", None)
    for name, value in sent.items():
        if name in NAMES:
            known = worker.raw(name)
            assert known is not None
            assert load_json(known) == value
    assert (worker.raw("overrideConfig") is None) == (override is None)


@UNHURRIED
@given(odd_jobs)
def test_what_python_takes_for_a_job_is_one_on_the_wire(fields: dict[str, Any]) -> None:
    raw = json.dumps(fields).encode()
    try:
        job = PredictionJob.model_validate(load_json(raw), by_alias=True, by_name=False)
    except ValueError:
        assert isinstance(read_as(RawJob, raw), str)
    else:
        assert PredictionJob.decode(raw) == job
        assert PredictionJob.decode(job.encode()) == job


@UNHURRIED
@given(st.binary())
def test_any_bytes_give_a_job_or_invalid_job(raw: bytes) -> None:
    assert read_as(RawJob, raw)


@pytest.mark.parametrize(
    ("written", "read"),
    [("12345", "12345"), ("12345.0", "12345"), ("1e3", "1000"), ("-7", "-7"), ('"7"', "7")],
)
@pytest.mark.parametrize("name", ["chatId", "jobId", "chatflowId", "after"])
def test_whole_number_is_an_id(name: str, written: str, read: str) -> None:
    raw = body(**{name: "X"}).replace(b'"X"', written.encode())

    assert {it.alias: getattr(RawJob.read(raw), key) for key, it in RawJob.model_fields.items()}[
        name
    ] == read


@pytest.mark.parametrize("written", ["3", "3.0", "3e0", "0.3e1", "30e-1"])
def test_whole_number_may_be_written_in_any_way(written: str) -> None:
    raw = body(maxCalls="X").replace(b'"X"', written.encode())

    assert RawJob.read(raw).max_calls == PredictionJob.decode(raw).max_calls == 3


@pytest.mark.parametrize("streaming", [True, False, "true", "no", 1, {"a": []}])
def test_streaming_may_say_anything(streaming: object) -> None:
    assert RawJob.read(body(streaming=streaming)).raw("streaming") is not None


def test_last_of_equal_names_counts() -> None:
    raw = b'{"chatflowId":"f","question":"","question":"Why?","form":{"a":1},"form":null}'

    job = RawJob.read(raw)

    assert bytes(job.raw("question") or b"") == b'"Why?"'
    assert job.raw("form") is None
    assert PredictionJob.decode(raw).endpoint_fields() == {"question": "Why?"}


@pytest.mark.parametrize("text", ["\ud83d", "a\udc00b", "\x00", "\ude00\ud83d"])
def test_any_string_is_a_question_and_a_tag(text: str) -> None:
    job = PredictionJob.decode(body(question=text, tags={text: text}, more={text: [text]}))

    assert (job.question, job.tags) == (text, {text: text})
    assert RawJob.read(job.encode()).tags == {text: text}
    assert PredictionJob.decode(job.encode()) == job


@pytest.mark.parametrize("depth", [300, 500])
def test_deep_values_travel(depth: int) -> None:
    raw = body(history="X").replace(b'"X"', b"[" * depth + b"1e400" + b"]" * depth)

    assert bytes(RawJob.read(raw).raw("history") or b"").count(b"[") == depth
    assert PredictionJob.decode(PredictionJob.decode(raw).encode()).encode().count(b"[") == depth


@pytest.mark.parametrize("name", ["tags", "chatId", "idempotent", "maxAttempts", "question"])
def test_long_value_of_the_wrong_kind_is_refused_unread(name: str) -> None:
    raw = body(**{name: "X"}).replace(b'"X"', b"[" + b"[]," * 100_000 + b'"%b"]' % SECRET.encode())

    with pytest.raises(InvalidJob, match=rf"{name} \(list of 300\d\d\d? bytes\)") as caught:
        RawJob.read(raw)

    assert SECRET not in str(caught.value)
    assert read_as(PredictionJob, raw) == str(caught.value)


def test_tags_may_be_written_with_escapes_and_space() -> None:
    tags = {"a" * 2000: "ä" * 6000}
    raw = body(tags="X").replace(b'"X"', b" " * 1000 + json.dumps(tags, indent=8).encode())

    assert RawJob.read(raw).tags == tags
