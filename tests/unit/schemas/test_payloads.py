import json
from datetime import UTC, datetime

import pytest
from hypothesis import given

from aimicromind_schemas import (
    EVENT_NAMES,
    ActionEvent,
    AgentFlowExecutedDataEvent,
    CalledToolsEvent,
    ErrorData,
    ErrorEvent,
    FailureKind,
    GenericEvent,
    MetadataEvent,
    SourceDocumentsEvent,
    ThinkingEvent,
    TokenEvent,
    UsageMetadataEvent,
    UsedToolsEvent,
    event_from,
)
from tests.unit.schemas.samples import END, an_event, fields
from tests.unit.schemas.strategies import json_values


def test_source_documents_are_typed() -> None:
    event = an_event("sourceDocuments", [{"pageContent": "p", "metadata": {"l": 1}, "score": 0.5}])

    assert isinstance(event, SourceDocumentsEvent)
    assert event.data[0].page_content == "p"
    assert event.data[0].metadata == {"l": 1}
    assert event.data[0].id is None
    assert event.data[0].model_extra == {"score": 0.5}


def test_tools_are_typed_and_may_be_null() -> None:
    used = an_event("usedTools", [{"tool": "t", "toolInput": {"i": 1}, "toolOutput": "42"}, None])
    called = an_event("calledTools", [])

    assert isinstance(used, UsedToolsEvent)
    assert used.data[0] is not None
    assert (used.data[0].tool, used.data[0].tool_output) == ("t", "42")
    assert used.data[1] is None
    assert isinstance(called, CalledToolsEvent)
    assert called.data == ()


def test_metadata_is_typed() -> None:
    event = an_event("metadata", {"chatId": "x", "chatMessageId": "m", "followUpPrompts": ["?"]})

    assert isinstance(event, MetadataEvent)
    assert (event.data.chat_message_id, event.data.question) == ("m", None)


def test_agent_flow_events_are_typed() -> None:
    node = {"nodeId": "n", "nodeLabel": "N", "data": {}, "previousNodeIds": ["m"], "status": "NEW"}
    event = an_event("agentFlowExecutedData", [node])
    action = an_event("action", {"id": "a", "mapping": {"approve": "Yes"}, "elements": [{}]})
    usage = an_event("usageMetadata", {"input_tokens": 1, "output_token_details": {"x": 2}})

    assert isinstance(event, AgentFlowExecutedDataEvent)
    assert event.data[0].previous_node_ids == ("m",)
    assert isinstance(action, ActionEvent)
    assert action.data.mapping == {"approve": "Yes"}
    assert isinstance(usage, UsageMetadataEvent)
    assert (usage.data.input_tokens, usage.data.total_tokens) == (1, None)


def test_duration_of_thinking_stands_beside_its_data() -> None:
    timed = event_from(fields("thinking", "Hm", duration=2))
    untimed = an_event("thinking", "Hm")

    assert isinstance(timed, ThinkingEvent)
    assert isinstance(untimed, ThinkingEvent)
    assert (timed.duration, untimed.duration) == (2.0, None)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("token", None),
        ("token", ["a"]),
        ("sourceDocuments", {"pageContent": "p"}),
        ("usedTools", [{"toolInput": {}}]),
        ("metadata", "text"),
        ("metadata", {"chatId": 5}),
        ("usageMetadata", {"input_tokens": "5"}),
        ("end", END | {"status": "paused"}),
        ("end", END | {"attempts": "1"}),
        ("end", END | {"recovered": 0}),
        ("end", "[DONE]"),
        ("error", {"kind": "brand_new", "message": "m"}),
        ("retry", {"kind": "timeout", "message": "m", "nextAttempt": -1, "delaySeconds": 0}),
        ("start", ""),
        ("other", {"name": 1, "data": 1}),
    ],
)
def test_unexpected_shape_or_kind_is_a_generic_event_of_that_name(name: str, data: object) -> None:
    event = an_event(name, data)

    assert type(event) is GenericEvent
    assert (event.event, event.data, event.seq) == (name, data, 3)


def test_unknown_name_is_a_generic_event() -> None:
    event = an_event("my.own", {"a": [1]})

    assert type(event) is GenericEvent
    assert event.data == {"a": [1]}


@given(json_values)
def test_no_data_makes_a_known_name_unreadable(data: object) -> None:
    for name in EVENT_NAMES:
        assert an_event(name, data).event == name


def test_error_without_a_response_has_no_status_on_the_wire() -> None:
    event = ErrorEvent(
        job_id="j",
        chat_id="c",
        chatflow_id="f",
        attempt=1,
        seq=0,
        time=datetime(2026, 11, 22, tzinfo=UTC),
        data=ErrorData(kind=FailureKind.TIMEOUT, message="late", http_status=None),
    )

    assert event.wire()["data"] == {"kind": "timeout", "message": "late"}


def test_endpoint_data_is_written_as_it_came() -> None:
    data = {"chatId": "x", "sessionId": None, "chat_id": 5, "page": {"pageContent": None}}
    event = an_event("metadata", data)

    assert isinstance(event, MetadataEvent)
    assert json.loads(json.dumps(event.wire()["data"])) == data


def test_halves_of_an_emoji_are_tokens() -> None:
    halves = [an_event("token", "\ud83d"), an_event("token", "\ude00")]

    assert all(isinstance(half, TokenEvent) for half in halves)
