import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas import EVENT_NAMES, OUTPUT_EVENTS, SIDE_EFFECT_EVENTS, FailureKind
from aimicromind_testing import Recording, frame
from aimicromind_worker.core.endpoint.answer import Answer
from aimicromind_worker.core.endpoint.call_failed import CallFailed
from aimicromind_worker.core.endpoint.errors import AnswerTooLarge, NoAnswer, StreamMixed
from aimicromind_worker.core.endpoint.frames import EndpointEvent, read_frame
from aimicromind_worker.core.endpoint.usage import UsageCount
from tests.support.builders import END, MODERATE, QUESTION, an_answer, an_event, tokens
from tests.unit.core.endpoint.streams import decoded

WELL = an_event("metadata", {"question": QUESTION})
DONE = an_event("end", "[DONE]")
TOKEN = an_event("token", "Once")


def follow(answer: Answer, *events: EndpointEvent) -> list[EndpointEvent]:
    return [published for event in events for published in answer.follow(event)]


def names(events: Iterable[EndpointEvent]) -> list[str]:
    return [event.name for event in events]


def upstream_of(start: EndpointEvent) -> object:
    assert start.name == "start"
    return json.loads(start.data)["upstream"]


@pytest.mark.parametrize("carried", ["", "Once", [1, {"a": None}]])
def test_start_that_comes_first_is_carried_along(carried: object) -> None:
    published = follow(an_answer(), an_event("start", carried), TOKEN, WELL, DONE)

    assert names(published) == ["start", "token", "metadata"]
    assert upstream_of(published[0]) == carried


def test_start_that_comes_later_is_dropped() -> None:
    published = follow(an_answer(), an_event("agentFlowEvent", "INPROGRESS"), an_event("start", ""))

    assert names(published) == ["start", "agentFlowEvent"]
    assert upstream_of(published[0]) is None


def test_start_is_made_where_the_endpoint_has_none() -> None:
    answer = an_answer(tags={"team": "blue\u2028"}, redelivered=True)

    start, token = follow(answer, TOKEN)

    assert json.loads(start.data) == {
        "tags": {"team": "blue\u2028"},
        "redelivered": True,
        "upstream": None,
    }
    assert token == TOKEN


def test_second_call_of_an_attempt_starts_nothing_anew() -> None:
    answer = an_answer()

    first = follow(answer, an_event("start", ""))
    answer.begin_call("call")
    second = follow(answer, an_event("start", ""), TOKEN)

    assert names([*first, *second]) == ["start", "token"]


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (an_event("error", "401 Unauthorized"), FailureKind.UNAUTHORIZED),
        (an_event("error", {"code": 7}), FailureKind.ENDPOINT_ERROR),
        (an_event("error", None), FailureKind.ENDPOINT_ERROR),
        (EndpointEvent("error", b"1e999"), FailureKind.ENDPOINT_ERROR),
        (EndpointEvent("error", b"9" * 5000), FailureKind.ENDPOINT_ERROR),
        (EndpointEvent("error", b"[" * 5000 + b"]" * 5000), FailureKind.ENDPOINT_ERROR),
        (DONE, FailureKind.NO_ANSWER),
        (an_event("metadata", {"question": "another"}), FailureKind.STREAM_MIXED),
    ],
    ids=lambda it: it.name if isinstance(it, EndpointEvent) else it,
)
def test_failure_that_comes_first_shows_nothing(event: EndpointEvent, kind: FailureKind) -> None:
    answer = an_answer()

    with pytest.raises(CallFailed) as failed:
        follow(answer, event)

    assert failed.value.kind == kind
    assert (answer.shown, answer.output, answer.complete) == (False, False, False)


def test_end_after_tokens_alone_is_no_answer() -> None:
    answer = an_answer()
    follow(answer, TOKEN)

    with pytest.raises(NoAnswer):
        follow(answer, DONE)

    assert not answer.complete


def test_error_after_metadata_is_an_error() -> None:
    answer = an_answer()
    follow(answer, TOKEN, WELL)

    with pytest.raises(CallFailed):
        follow(answer, an_event("error", "terminated"))

    assert not answer.complete


def test_end_after_metadata_completes_even_an_empty_answer() -> None:
    answer = an_answer()

    published = follow(answer, WELL, DONE)

    assert names(published) == ["start", "metadata"]
    assert answer.complete
    assert answer.text == b'""'


def test_success_of_one_call_is_not_that_of_the_next() -> None:
    answer = an_answer()
    follow(answer, WELL)
    answer.begin_call("call")

    with pytest.raises(NoAnswer):
        follow(answer, DONE)


@MODERATE
@given(texts=st.lists(st.text() | st.sampled_from(["", '"', "\\", "😀", "\u2028", "\r\n\x00"])))
def test_text_is_the_tokens_joined(texts: list[str]) -> None:
    for escaped in (True, False):
        answer = an_answer()
        for text in texts:
            data = json.dumps(text, ensure_ascii=escaped).encode("utf-8")
            follow(answer, EndpointEvent("token", data))

        assert json.loads(answer.text) == "".join(texts)


def test_upstream_start_is_no_part_of_the_text() -> None:
    answer = an_answer()

    follow(answer, an_event("start", "Once"), TOKEN)

    assert answer.text == b'"Once"'


@pytest.mark.parametrize("name", sorted(EVENT_NAMES - {"error", "end", "start", "metadata"}))
def test_flags_go_by_the_name(name: str) -> None:
    answer = an_answer()

    follow(answer, an_event(name, "x"))

    worker_own = name in {"retry", "other"}
    assert answer.output == (name in OUTPUT_EVENTS and not worker_own)
    assert answer.side_effect == (name in SIDE_EFFECT_EVENTS)


@pytest.mark.parametrize("data", [[], None, {}, ""])
@pytest.mark.parametrize("name", ["calledTools", "usedTools", "artifacts", "sourceDocuments"])
def test_empty_event_is_neither_output_nor_side_effect(name: str, data: object) -> None:
    answer = an_answer()

    published = follow(answer, an_event(name, data))

    assert names(published) == ["start", name]
    assert (answer.output, answer.side_effect) == (False, False)


def test_empty_token_is_output() -> None:
    answer = an_answer()

    follow(answer, an_event("token", ""))

    assert answer.output


def test_flags_stay_up() -> None:
    answer = an_answer()

    follow(answer, an_event("usedTools", [None]), an_event("calledTools", []), WELL)
    answer.begin_call("call")

    assert (answer.output, answer.side_effect) == (True, True)


@pytest.mark.parametrize(
    "told", [{"question": "Who?"}, {"question": "Who?", "chatMessageId": 7, "sessionId": []}]
)
def test_metadata_of_another_question_is_another_runs_ending(told: object) -> None:
    answer = an_answer()
    follow(answer, TOKEN)

    with pytest.raises(StreamMixed):
        follow(answer, an_event("metadata", told))


@pytest.mark.parametrize(
    ("asked", "data"),
    [
        (QUESTION, {"question": f" {QUESTION}\n"}),
        (f"{QUESTION} \n", {"question": QUESTION}),
        (QUESTION, {"question": None}),
        (QUESTION, {}),
        (QUESTION, {"question": 7}),
        (QUESTION, "text"),
        (None, {"question": "of a form"}),
    ],
)
def test_metadata_that_may_be_ours_counts(asked: str | None, data: object) -> None:
    answer = an_answer(question=asked)

    follow(answer, TOKEN, an_event("metadata", data), DONE)

    assert answer.complete


def read_all(body: bytes) -> list[EndpointEvent]:
    return [event for it in decoded([body]) if (event := read_frame(it)) is not None]


def test_recorded_mix_of_two_runs_is_noticed() -> None:
    answer = an_answer(question="TWO [[n=60 rate=20]]")
    recording = Recording.load("same-chat-after-cut")

    with pytest.raises(StreamMixed):
        follow(answer, *read_all(recording.body))


def test_answer_up_to_the_limit_passes() -> None:
    answer = an_answer(max_answer_bytes=10)

    follow(answer, an_event("token", "12345"), an_event("token", "67890"), an_event("token", ""))

    assert answer.text == b'"1234567890"'


@pytest.mark.parametrize("before", [[], [an_event("token", "12345")]])
def test_answer_beyond_the_limit_fails_and_its_text_is_what_was_shown(
    before: list[EndpointEvent],
) -> None:
    answer = an_answer(max_answer_bytes=10)
    shown = follow(answer, *before)

    with pytest.raises(AnswerTooLarge, match="10 bytes") as failed:
        follow(answer, an_event("token", "12345678901"))

    assert failed.value.kind == FailureKind.TOO_LARGE
    tokens_shown = [json.loads(event.data) for event in shown if event.name == "token"]
    assert json.loads(answer.text) == "".join(tokens_shown)
    assert answer.output == bool(tokens_shown)


@pytest.mark.parametrize("name", ["retry", "other", "", "x" * 251, "ü" * 42, "." * 84])
def test_name_that_cannot_be_a_key_is_wrapped(name: str) -> None:
    _, event = follow(an_answer(chat_id=""), an_event(name, {"a": 1}))

    assert event.name == "other"
    assert json.loads(event.data) == {"name": name, "data": {"a": 1}}


@pytest.mark.parametrize("name", ["x" * 249, "ü" * 41, "tts_abort", "a.b", "*", "#"])
def test_other_names_of_a_flow_pass_unchanged(name: str) -> None:
    event = an_event(name, [1])

    assert follow(an_answer(chat_id=""), event)[1] == event


def test_names_fit_beside_the_chat_they_go_to() -> None:
    event = an_event("x" * 50, 1)

    assert names(follow(an_answer(chat_id="c" * 199), event)) == ["start", "x" * 50]
    assert names(follow(an_answer(chat_id="c" * 200), event)) == ["start", "other"]


def test_whole_streams_of_frames_are_followed() -> None:
    answer = an_answer()
    body = frame("start", "") + tokens("Once ", "upon") + frame("metadata", {}) + END

    published = follow(answer, *read_all(body))

    assert names(published) == ["start", "token", "token", "metadata"]
    assert answer.complete


@pytest.mark.parametrize(
    ("step", "acts"), [("tool_start", True), ("agent_action", True), ("agent_finish", False)]
)
def test_trace_of_a_tool_is_a_side_effect_before_the_tool_is_reported(
    step: str, *, acts: bool
) -> None:
    answer = an_answer()

    follow(answer, an_event("agent_trace", {"step": step}))

    assert (answer.output, answer.side_effect) == (False, acts)


def test_metadata_names_the_conversation_and_the_call() -> None:
    answer = an_answer(chat_id="team[/a]")
    answer.begin_call("call-1")
    told = {"chatId": "of-the-server", "question": QUESTION, "followUpPrompts": '["\u2028"]'}

    *_, metadata = follow(answer, an_event("metadata", told))

    named = {"chatId": "team[/a]", "endpointChatId": "call-1"}
    assert json.loads(metadata.data) == told | named


@pytest.mark.parametrize("told", [{}, {"question": QUESTION}])
def test_metadata_without_a_chat_gets_one(told: dict[str, str]) -> None:
    *_, metadata = follow(an_answer(), an_event("metadata", told))

    assert json.loads(metadata.data)["chatId"] == "chat"


@pytest.mark.parametrize("told", [None, "text", [1], 7])
def test_metadata_of_another_shape_travels_as_it_is(told: object) -> None:
    answer = an_answer()

    *_, metadata = follow(answer, an_event("metadata", told))

    assert json.loads(metadata.data) == told
    assert follow(answer, DONE) == []


def test_usage_is_the_sum_of_what_the_endpoint_counted() -> None:
    answer = an_answer()
    counted = [
        {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5, "input_token_details": {}},
        {"output_tokens": 1},
        {"input_tokens": "many"},
        {"input_tokens": -1},
        {"total_tokens": 10**13},
        ["odd"],
        None,
    ]

    follow(answer, *(an_event("usageMetadata", each) for each in counted))

    assert answer.usage == UsageCount(input=3, output=3, total=5)


def test_flow_that_asks_a_human_waits_for_one() -> None:
    answer = an_answer()
    follow(answer, an_event("action", {}))
    assert not answer.waits_for_human

    follow(answer, an_event("action", {"id": "1", "mapping": {"approve": "Proceed"}}))

    assert answer.waits_for_human


def test_whole_answer_must_fit_into_a_message_beside_its_text() -> None:
    answer = an_answer(max_answer_bytes=8 * 1024 * 1024)
    follow(answer, an_event("token", "a" * 7_900_000))
    answer.keep_whole(b" " * 7_800_000)

    with pytest.raises(AnswerTooLarge):
        answer.keep_whole(b" " * 7_900_000)
