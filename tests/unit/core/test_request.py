import json
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas import PredictionJob
from aimicromind_worker.core.request import call_chat_id, expected_question, prediction_body
from tests.support.builders import BRIEF, job_of
from tests.unit.schemas.strategies import json_values, texts


def sent(job: PredictionJob) -> dict[str, object]:
    body: dict[str, object] = json.loads(prediction_body(job, "chat", "call-chat"))
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


def test_job_itself_is_left_as_it_was() -> None:
    job = job_of(overrideConfig={"vars": {}})

    prediction_body(job, "chat", "call-chat")

    assert job.override_config == {"vars": {}}


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
    assert expected_question(job_of()) == "Why?"


def test_question_may_differ_where_the_server_changes_it() -> None:
    assert expected_question(job_of(uploads=[{"type": "audio"}])) is None
    assert expected_question(job_of(question=None, form={"a": 1})) is None


@given(st.text(min_size=1).filter(str.strip))
def test_question_travels_unchanged(question: str) -> None:
    assert sent(job_of(question=question))["question"] == question
