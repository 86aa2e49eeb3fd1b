"""The job that answers a question to a person: one for each question, in the flow's own shape."""

import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas import ActionEvent, EndEvent, event_from
from aimicromind_schemas.client import CannotAnswer
from aimicromind_schemas.client.jobs.human_answer import HumanAnswer
from tests.unit.client.deliveries import delivery, end

ASKED_AT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
NODE = {"id": "q-1", "data": {"nodeId": "human_0"}, "mapping": {"approve": "Go", "reject": "No"}}
_JOB_ID = "answer-" + sha256(b"job\nq-1").hexdigest()
CALLS = [{"name": "mail", "id": "call_1"}]
LABELS = {"id": "q-2", "mapping": {"approve": "Yes", "reject": "No", "toolCalls": CALLS}}


def question(data: Any = None) -> ActionEvent:  # noqa: ANN401 - JSON
    body = {
        "jobId": "job",
        "chatId": "chat",
        "chatflowId": "flow",
        "attempt": 1,
        "seq": 3,
        "time": ASKED_AT.isoformat(),
        "event": "action",
        "data": data or NODE,
    }
    event = event_from(body)
    assert isinstance(event, ActionEvent)
    return event


def answer(
    asked: ActionEvent | None = None, *, approve: bool = True, feedback: str | None = None
) -> HumanAnswer:
    return HumanAnswer(asked or question(), approve, feedback, timedelta(hours=1), None)


def sent(given: HumanAnswer, **later: float) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(given.job(ASKED_AT + timedelta(**later)).encode())
    return fields


def test_answer_is_a_job_of_the_same_chat_after_the_one_that_asked() -> None:
    fields = sent(answer(feedback="only once"))

    assert fields == {
        "chatflowId": "flow",
        "chatId": "chat",
        "jobId": _JOB_ID,
        "after": "job",
        "expiresAt": "2026-05-04T04:02:01.000000Z",
        "tags": {"decision": "approved"},
        "humanInput": {"type": "proceed", "startNodeId": "human_0", "feedback": "only once"},
    }


def test_sequential_agents_get_the_label_and_the_whole_question() -> None:
    yes, no = sent(answer(question(LABELS))), sent(answer(question(LABELS), approve=False))

    assert (yes["question"], no["question"]) == ("Yes", "No")
    assert yes["action"] == no["action"] == LABELS


def test_feedback_that_the_flow_would_not_see_is_refused() -> None:
    with pytest.raises(ValueError, match="feedback"):
        sent(answer(question(LABELS), feedback="not now"))


@given(st.text(min_size=1), st.text(min_size=1))
def test_all_answers_to_a_question_and_no_others_have_one_job_id(one: str, other: str) -> None:
    asked, another = question(NODE | {"id": one}), question(NODE | {"id": other})
    ids = {sent(answer(asked, approve=it))["jobId"] for it in (True, False)}

    assert len(ids) == 1
    assert (sent(answer(another))["jobId"] in ids) == (one == other)


def test_questions_of_two_jobs_with_one_id_have_two_answers() -> None:
    asked = question()
    other = asked.model_copy(update={"job_id": "job-2"})

    assert sent(answer(asked))["jobId"] != sent(answer(other))["jobId"]


@pytest.mark.parametrize("data", [{"id": "q"}, {"id": "q", "mapping": {"approve": ["Yes"]}}])
def test_question_that_does_not_say_how_it_is_answered_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(CannotAnswer, match="neither a node nor labels"):
        sent(answer(question(data)))


def test_question_that_has_expired_is_not_answered() -> None:
    assert sent(answer(), minutes=59)["after"] == "job"
    with pytest.raises(CannotAnswer, match="expired"):
        sent(answer(), minutes=60)


def _ended(attempt: int, waits_for: str | None) -> EndEvent:
    ended = delivery(end("job", 4)).event()
    assert isinstance(ended, EndEvent)
    data = ended.data.model_copy(update={"waits_for": waits_for})
    return ended.model_copy(update={"attempt": attempt, "data": data})


def test_only_a_job_that_waits_for_this_question_is_answered() -> None:
    answer().check(_ended(1, "human"))

    with pytest.raises(CannotAnswer, match="waits for nobody"):
        answer().check(_ended(1, None))
    with pytest.raises(CannotAnswer, match="superseded"):
        answer().check(_ended(2, "human"))
