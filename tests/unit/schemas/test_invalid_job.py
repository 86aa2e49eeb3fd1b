import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aimicromind_schemas import InvalidJob, PredictionJob, Problem
from tests.unit.schemas.samples import SECRET, body
from tests.unit.schemas.strategies import json_values


def problems(raw: bytes) -> tuple[Problem, ...]:
    with pytest.raises(InvalidJob) as caught:
        PredictionJob.decode(raw)
    return caught.value.problems


@pytest.mark.parametrize("empty", [None, "", [], {}])
def test_empty_flow_counts_as_missing(empty: object) -> None:
    (problem,) = problems(body(chatflowId=empty))

    assert (problem.field, problem.found) == ("chatflowId", "missing")


def test_nothing_asked_is_no_job() -> None:
    (problem,) = problems(body(question="", form={}, history=[1], leadEmail="a@b.c"))

    assert (problem.field, problem.found) == ("question", "missing")


def test_retired_field_names_the_one_that_takes_its_place() -> None:
    (problem,) = problems(body(maxAttempts=2))

    assert (problem.field, problem.found) == ("maxAttempts", "number")
    assert "maxCalls" in problem.remedy
    assert PredictionJob.decode(body(maxAttempts=None)).endpoint_fields().keys() == {"question"}


def test_job_cannot_come_after_itself() -> None:
    (problem,) = problems(body(jobId="job-1", after="job-1"))

    assert problem.field == "after"


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("chatflowId", "a/b", "string of 3 characters"),
        ("chatflowId", "a\n", "string of 2 characters"),
        ("chatflowId", "a" * 129, "string of 129 characters"),
        ("question", ["Why?"], "list of 1 items"),
        ("chatId", 7.5, "number"),
        ("chatId", True, "boolean"),
        ("chatId", "\ud83d", "string of 1 characters"),
        ("jobId", -0.5, "number"),
        ("jobId", 2**63, "number"),
        ("chatId", "." * 77, "string of 77 characters"),
        ("jobId", "a b", "string of 3 characters"),
        ("jobId", "a" * 140, "string of 140 characters"),
        ("jobId", True, "boolean"),
        ("overrideConfig", "x", "string of 1 characters"),
        ("overrideConfig", [1], "list of 1 items"),
        ("timeoutSeconds", 0, "number"),
        ("timeoutSeconds", -1.5, "number"),
        ("timeoutSeconds", True, "boolean"),
        ("timeoutSeconds", "5", "string of 1 characters"),
        ("timeoutSeconds", 10**400, "number"),
        ("expiresAt", "2026-11-22T13:20:00", "string of 19 characters"),
        ("expiresAt", "2026-11-22", "string of 10 characters"),
        ("expiresAt", "2026-13-22T13:20:00Z", "string of 20 characters"),
        ("expiresAt", "0001-01-01T00:00:00+23:59", "string of 25 characters"),
        ("expiresAt", "1795355994", "string of 10 characters"),
        ("expiresAt", 1795355994, "number"),
        ("maxCalls", 0, "number"),
        ("maxCalls", 2.5, "number"),
        ("maxCalls", "3", "string of 1 characters"),
        ("maxCalls", True, "boolean"),
        ("maxAttempts", 2, "number"),
        ("answer", "yaml", "string of 4 characters"),
        ("answer", True, "boolean"),
        ("after", "a b", "string of 3 characters"),
        ("after", 7.1, "number"),
        ("idempotent", 1, "number"),
        ("idempotent", "true", "string of 4 characters"),
        ("tags", ["a"], "list of 1 items"),
        ("tags", {"a": 1}, "object"),
        ("tags", {"a": "x" * 16_384}, "object"),
    ],
)
def test_refused_value_is_named_by_field_kind_and_remedy(
    field: str, value: object, found: str
) -> None:
    (problem,) = problems(body(**{field: value}))

    assert (problem.field, problem.found) == (field, found)
    assert problem.remedy


def test_all_refused_fields_are_told_at_once() -> None:
    told = problems(body(chatflowId=None, idempotent="x", maxCalls=0))

    assert {problem.field for problem in told} == {"chatflowId", "idempotent", "maxCalls"}


def test_job_id_that_cannot_stand_in_for_the_chat_id_needs_one() -> None:
    (problem,) = problems(body(jobId="." * 77))

    assert (problem.field, problem.found) == ("chatId", "missing")
    assert PredictionJob.decode(body(jobId="." * 77, chatId="c")).job_id == "." * 77


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        body()[:-1],
        body().replace(b"Why?", b"\xc3"),
        body().replace(b"Why?", b"\\ud8"),
        body().replace(b"Why?", b"a\nb"),
        body(history="X").replace(b'"X"', b"NaN"),
        body(history="X").replace(b'"X"', b"-Infinity"),
        body(history="X").replace(b'"X"', b"+1"),
        body(history="X").replace(b'"X"', b"[" * 100_000 + b"]" * 100_000),
        body().decode().encode("utf-16")[:-1],
        body() + b"\0 x",
        b"{" + b'"question":"Why?","a":1,' * 2000 + body()[1:],
    ],
)
def test_body_that_cannot_be_read_is_a_problem_of_the_body(raw: bytes) -> None:
    (problem,) = problems(raw)

    assert problem.field == ""


def test_place_of_a_json_fault_is_told() -> None:
    (problem,) = problems(b'{"a":1,\n!}')

    assert problem.found == "no readable JSON, line 2 column 1"


@given(st.binary())
@example(b'{"chatflowId":"a","question":"\\u0000"}')
def test_any_bytes_give_a_job_or_invalid_job(raw: bytes) -> None:
    with suppress(InvalidJob):
        assert PredictionJob.decode(raw).chatflow_id


@given(
    st.dictionaries(
        st.sampled_from([str(field.alias) for field in PredictionJob.model_fields.values()]),
        json_values,
    )
)
def test_any_values_give_a_job_or_invalid_job(fields: dict[str, Any]) -> None:
    with suppress(InvalidJob):
        assert PredictionJob.decode(json.dumps(fields).encode()).chatflow_id


@pytest.mark.parametrize("field", [str(it.alias) for it in PredictionJob.model_fields.values()])
@pytest.mark.parametrize(
    "value", [SECRET * 30, [SECRET], {SECRET: 1}, {"a": {SECRET: SECRET}}, f"\n{SECRET}"]
)
def test_invalid_job_never_quotes_a_value(field: str, value: object) -> None:
    raw = body(**{"jobId": f"{SECRET} ", "password": SECRET, field: value, "tags": {SECRET: 1}})

    with pytest.raises(InvalidJob) as caught:
        PredictionJob.decode(raw)

    assert SECRET not in str(caught.value) + repr(caught.value) + repr(caught.value.problems)


def test_broken_json_is_not_quoted() -> None:
    with pytest.raises(InvalidJob) as caught:
        PredictionJob.decode(b'{"question": ' + SECRET.encode())

    assert SECRET not in str(caught.value)
