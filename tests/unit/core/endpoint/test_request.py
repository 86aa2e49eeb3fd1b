import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas import RawJob
from aimicromind_schemas.wire import load_json
from aimicromind_worker.core.endpoint.request import (
    call_chat_id,
    expected_question,
    is_question,
    prediction_body,
)
from tests.support.builders import BRIEF, a_job, job_of
from tests.unit.schemas.strategies import json_values, texts


def text_sent(job: RawJob) -> bytes:
    return b"".join(prediction_body(job, "chat", "call-chat"))


def sent(job: RawJob) -> dict[str, object]:
    body: dict[str, object] = json.loads(text_sent(job))
    return body


def test_no_two_calls_share_a_chat_id() -> None:
    calls = [
        (job, attempt, call)
        for job in ("a", "b", "a.1")
        for attempt in range(12)
        for call in range(12)
    ]

    ids = {call_chat_id(*call) for call in calls}

    assert len(ids) == len(calls)
    assert all(str(UUID(chat_id)) == chat_id for chat_id in ids)


def test_chat_id_of_a_call_can_be_worked_out_again() -> None:
    assert call_chat_id("job", 2, 1) == call_chat_id("job", 2, 1)


def test_request_has_the_question_the_calls_chat_and_the_chats_session() -> None:
    assert sent(job_of()) == {
        "question": "Why?",
        "overrideConfig": {"sessionId": "chat"},
        "chatId": "call-chat",
        "streaming": True,
    }


def test_job_that_wants_json_asks_without_streaming() -> None:
    asked = sent(job_of(answer="json", streaming=True))

    assert asked == sent(job_of()) | {"streaming": False}


def test_what_is_meant_for_the_worker_is_not_sent() -> None:
    assert sent(job_of(after="job-0", maxCalls=2, maxAttempts=None)) == sent(job_of())


def test_session_of_the_job_goes_before_that_of_the_chat() -> None:
    job = job_of(overrideConfig={"sessionId": "s", "vars": {"a": 1}})

    assert sent(job)["overrideConfig"] == {"sessionId": "s", "vars": {"a": 1}}


def test_empty_session_counts_as_none() -> None:
    assert sent(job_of(overrideConfig={"sessionId": ""}))["overrideConfig"] == {"sessionId": "chat"}


def test_streaming_is_asked_for_whatever_the_job_says() -> None:
    assert sent(job_of(streaming=False))["streaming"] is True


def test_unknown_fields_go_to_the_endpoint_as_they_came() -> None:
    job = job_of(newField={"a": [1.5, None, "😀\u2028"]}, history=[{"role": "userMessage"}])

    body = sent(job)

    assert body["newField"] == {"a": [1.5, None, "😀\u2028"]}
    assert body["history"] == [{"role": "userMessage"}]


@BRIEF
@given(st.dictionaries(texts.map("new{}".format), json_values, max_size=3))
def test_any_unknown_field_goes_to_the_endpoint(unknown: dict[str, object]) -> None:
    body = sent(job_of(**{name: value for name, value in unknown.items() if value is not None}))

    assert all(body[name] == value for name, value in unknown.items() if value is not None)


def test_what_is_meant_for_the_worker_stays_with_it() -> None:
    own = {
        "timeoutSeconds": 5,
        "expiresAt": "2026-11-22T12:00:00Z",
        "maxCalls": 2,
        "idempotent": True,
        "tags": {"a": "b"},
    }

    assert sent(job_of(**own)) == sent(job_of())


def test_metadata_must_speak_of_the_jobs_question() -> None:
    assert bytes(expected_question(job_of()) or b"") == b'"Why?"'


def test_question_may_differ_where_the_server_changes_it() -> None:
    assert expected_question(job_of(uploads=[{"type": "audio"}])) is None
    assert expected_question(job_of(question=None, form={"a": 1})) is None


@given(st.text(min_size=1).filter(str.strip))
def test_question_travels_unchanged(question: str) -> None:
    assert sent(job_of(question=question))["question"] == question


@pytest.mark.parametrize(
    "value",
    [
        "1e999",
        "1.50",
        "9" * 400,
        "-0",
        "[ 1 , 2 ]",
        '"\\ud83d"',
        '"\\u00e4\\/"',
        '{"a":1,"a":2}',
        "[" * 500 + "]" * 500,
        '{"__proto__":{"x":1}}',
    ],
)
@pytest.mark.parametrize("name", ["history", "form", "unknown", "leadEmail"])
def test_values_that_only_travel_are_sent_byte_for_byte(name: str, value: str) -> None:
    job = RawJob.read(a_job(**{name: "X"}).replace(b'"X"', value.encode()))

    assert b'"%b":' % name.encode() in text_sent(job)
    assert value.encode() in text_sent(job)


def test_inside_of_the_override_travels_but_for_the_session() -> None:
    inside = b'{ "a" : 1e999 , "sessionId" : "s\\ud83d" , "b":"\\ud83d" }'
    job = RawJob.read(a_job(overrideConfig="X").replace(b'"X"', inside))

    body = text_sent(job)

    assert b'"overrideConfig":{"sessionId":"s\\ud83d" ,"a" : 1e999 ,"b":"\\ud83d" }' in body


@pytest.mark.parametrize("session", [b"null", b'""', b"0", b"false", b"[]"])
def test_session_that_says_nothing_is_the_chats(session: bytes) -> None:
    inside = b'{"sessionId":%b,"sessionId":%b}' % (b'"first"', session)
    job = RawJob.read(a_job(overrideConfig="X").replace(b'"X"', inside))

    assert sent(job)["overrideConfig"] == {"sessionId": "chat"}


def test_null_and_empty_members_are_not_sent() -> None:
    job = RawJob.read(a_job(history="X", form="Y").replace(b'"X"', b"[ ]").replace(b'"Y"', b"{}"))

    assert sent(job) == sent(job_of())


@BRIEF
@given(st.dictionaries(texts.map("new{}".format), json_values, max_size=5), st.booleans())
def test_request_is_one_object_whatever_is_in_it(unknown: dict[str, object], asked: bool) -> None:  # noqa: FBT001 - given by hypothesis
    fields = unknown | ({} if asked else {"question": None, "form": {"a": 1}})

    body = load_json(text_sent(job_of(**fields)))

    assert body["chatId"] == "call-chat"
    assert body["streaming"] is True


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ('"Why?"', '"Why?"'),
        ('"Why?"', '"\\u0057hy?"'),
        ('" Why?\\n"', '"Why?"'),
        ('"Why? \\ud83d"', '"Why? \ufffd"'),
        ('"Why?"', "null"),
        ('"Why?"', "7"),
        ('" "', '"Who?"'),
    ],
)
def test_metadata_may_speak_of_the_question_in_other_words(asked: str, told: str) -> None:
    assert is_question(memoryview(asked.encode()), told.encode())


def test_metadata_of_another_question_is_noticed() -> None:
    assert not is_question(memoryview(b'"Why?"'), b'"Who?"')
