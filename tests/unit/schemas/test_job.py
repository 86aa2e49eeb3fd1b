import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from aimicromind_schemas import PredictionJob, is_job_id, readable_ids
from tests.unit.schemas.samples import SECRET, body
from tests.unit.schemas.strategies import jobs


def test_flow_and_question_make_a_job() -> None:
    job = PredictionJob.decode(body())

    assert (job.chatflow_id, job.question, job.chat_id, job.job_id) == ("flow", "Why?", None, None)


def test_all_fields_are_read() -> None:
    job = PredictionJob.decode(
        body(
            chatId="räum 1",
            jobId="j-1",
            overrideConfig={"sessionId": "s"},
            timeoutSeconds=5,
            expiresAt="2026-11-22T14:20:00.5+01:00",
            maxCalls=2,
            idempotent=False,
            streaming=False,
            tags={"team": "blue"},
        )
    )

    assert job.chat_id == "räum 1"
    assert job.job_id == "j-1"
    assert job.override_config == {"sessionId": "s"}
    assert job.timeout_seconds == 5
    assert job.expires_at == datetime(2026, 11, 22, 13, 20, 0, 500_000, UTC)
    assert job.max_calls == 2
    assert job.idempotent is False
    assert job.streaming is False
    assert job.tags == {"team": "blue"}


@pytest.mark.parametrize("empty", [None, "", [], {}])
def test_null_and_empty_count_as_absent(empty: object) -> None:
    optional = {name for name in PredictionJob.model_fields if name != "chatflow_id"}
    wire = {str(PredictionJob.model_fields[name].alias): empty for name in optional}

    job = PredictionJob.decode(body(**wire | {"question": "Why?"}))

    assert job == PredictionJob(chatflow_id="flow", question="Why?")
    assert json.loads(job.encode()) == {"chatflowId": "flow", "question": "Why?"}


@pytest.mark.parametrize("instead", ["form", "humanInput", "action", "uploads"])
def test_question_may_be_left_out_for_another_input(instead: str) -> None:
    job = PredictionJob.decode(body(question=None, **{instead: {"a": 1}}))

    assert job.endpoint_fields() == {instead: {"a": 1}}


@given(jobs())
def test_decoding_undoes_encoding(fields: dict[str, Any]) -> None:
    job = PredictionJob.decode(json.dumps(fields).encode())

    assert PredictionJob.decode(job.encode()) == job


@given(jobs())
def test_endpoint_gets_its_fields_and_the_unknown_ones_as_they_came(fields: dict[str, Any]) -> None:
    job = PredictionJob.decode(json.dumps(fields).encode())

    ours = {"chatflowId", "chatId", "jobId", "streaming", "timeoutSeconds", "expiresAt"}
    ours |= {"maxCalls", "idempotent", "tags", "answer", "after"}
    known = {str(field.alias) for field in PredictionJob.model_fields.values()}
    assert job.endpoint_fields() == {
        name: value
        for name, value in fields.items()
        if name not in known or (name not in ours and value not in (None, "", [], {}))
    }


def test_unknown_fields_are_kept_even_where_they_look_like_ours() -> None:
    unknown = {"chat_id": 5, "chatflow_id": None, "analytics": {"a": [1.5]}, "shown": "x"}

    job = PredictionJob.decode(body(chatId="c", **unknown))

    assert job.chat_id == "c"
    assert job.endpoint_fields() == {"question": "Why?"} | unknown
    assert PredictionJob.decode(job.encode()) == job


def test_job_made_in_python_is_checked_too() -> None:
    with pytest.raises(ValidationError) as caught:
        PredictionJob(chatflow_id="flow", question="Why?", chat_id=SECRET * 99)

    assert SECRET not in str(caught.value)


def test_contents_are_in_no_repr() -> None:
    job = PredictionJob.decode(
        body(question=SECRET, history=[SECRET], overrideConfig={"key": SECRET}, more=SECRET)
    )

    assert SECRET not in repr(job) + str(job)
    assert repr(job) == "PredictionJob(chatflow_id='flow', chat_id=None, job_id=None)"


@pytest.mark.parametrize(
    ("raw", "ids"),
    [
        (b'{"chatId":"c","jobId":"j","question":5}', ("c", "j")),
        (b'{"chatId":"c","jobId":"j","question":"Wh', ("c", "j")),
        (b'{"chatId":"c","jobId":"j","question":"\\ud83d"}', ("c", "j")),
        (b'{"chatId":"c","jobId":"j","question":"\xff"}', ("c", "j")),
        (b'{"chatId":"c","jobId":"j","question":' + b"[" * 300 + b"]" * 300 + b"}", ("c", "j")),
        (b'{"chatId":"c","jobId":"j","question":' + b"[" * 10**6, ("c", "j")),
        (b'{"question":' + b"[" * 10**6 + b"]" * 10**6 + b',"chatId":"c","jobId":"j"', ("c", "j")),
        (b'{"a":NaN,"b":[{"chatId":"x"}],"chatId":"c","jobId":7}', ("c", "7")),
        (b'{"a":"}","b":"\\"","chatId":"c"', ("c", None)),
        (b'{"chatId":"b","chatId":"c","x"', ("c", None)),
        (b'{"chatId":"c","jobId":"j"}}', ("c", "j")),
        (b"\xef\xbb\xbf" + b'{"chatId":"c","jobId":"j",', ("c", "j")),
        ('{"chatId":"räum","jobId":"j"}'.encode("utf-16"), ("räum", "j")),
        ('{"chatId":"räum","jobId":"j"'.encode("utf-16-be"), ("räum", "j")),
        ('{"chatId":"räum","jobId":"j"'.encode("utf-32"), ("räum", "j")),
        ('{"chatId":"c","x":"'.encode("utf-16") + b"\x00\xd8", ("c", None)),
        (b'["chatId","c"]', (None, None)),
        (b'{"chatId":"\xff","jobId":"j"}', (None, "j")),
        (b'{"chatId":"c","jobId":"j', ("c", None)),
        (b'{"chatId":"","jobId":"a b"}', (None, None)),
        (b'{"chatId":5,"jobId":["j"]}', ("5", None)),
        (b'{"chatId":1.5,"jobId":true}', (None, None)),
        (b'{"chatId":"' + b"." * 77 + b'","jobId":"j"}', (None, "j")),
        (b'{"x":{"chatId":"c","jobId":"j"}}', (None, None)),
        (b'[{"chatId":"c"}]', (None, None)),
        (b"", (None, None)),
        (b"\xff\xfe", (None, None)),
    ],
)
def test_ids_are_found_where_they_are_certain(
    raw: bytes, ids: tuple[str | None, str | None]
) -> None:
    assert readable_ids(raw) == ids


@given(st.binary())
def test_looking_for_ids_never_raises(raw: bytes) -> None:
    assert len(readable_ids(raw)) == 2


def test_ids_are_found_in_a_huge_body() -> None:
    raw = b'{"chatId":"c","uploads":["' + b"x" * 20_000_000

    assert readable_ids(raw) == ("c", None)


def test_job_id_is_plain_text_of_bounded_length() -> None:
    assert is_job_id("a.b-c_D9")
    assert is_job_id("a" * 128)
    assert not any(map(is_job_id, ["", "a" * 129, "a b", "a\n", "é", "a:b"]))
