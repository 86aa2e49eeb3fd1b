import json
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas import (
    EVENT_NAMES,
    GenericEvent,
    NotAnEvent,
    RoutingKeyTooLong,
    ThinkingEvent,
    TokenEvent,
    UsedToolsEvent,
    chat_fits,
    decode,
    encode,
    event_from,
    parse_routing_key,
)
from tests.unit.schemas.samples import an_event, fields
from tests.unit.schemas.strategies import DATA, events, unknown_names

NOON = datetime(2026, 11, 22, 12, 0, 0, 5, UTC)
TOKEN = TokenEvent(
    job_id="j1", chat_id="räum", chatflow_id="flow", attempt=2, seq=3, time=NOON, data="Once"
)


def generic(name: str, data: object) -> GenericEvent:
    return GenericEvent(
        job_id="j1",
        chat_id="c",
        chatflow_id="flow",
        attempt=2,
        seq=3,
        time=NOON,
        event=name,
        data=data,
    )


def test_body_is_the_contracts_object_in_its_order() -> None:
    assert encode(TOKEN).body.decode() == (
        '{"jobId":"j1","chatId":"räum","chatflowId":"flow","attempt":2,"seq":3,'
        '"time":"2026-11-22T12:00:00.000005Z","event":"token","data":"Once"}'
    )


def test_time_always_has_six_digits_and_a_z() -> None:
    body = json.loads(encode(TOKEN.model_copy(update={"time": NOON.replace(microsecond=0)})).body)

    assert body["time"] == "2026-11-22T12:00:00.000000Z"


def test_duration_of_thinking_is_written_only_where_known() -> None:
    untimed = ThinkingEvent(
        job_id="j", chat_id="c", chatflow_id="f", attempt=1, seq=0, time=NOON, data="Hm"
    )
    timed = untimed.model_copy(update={"duration": 1.5})

    assert "duration" not in json.loads(encode(untimed).body)
    assert list(json.loads(encode(timed).body))[-2:] == ["data", "duration"]


def test_properties_are_those_of_the_contract() -> None:
    message = encode(TOKEN)

    assert message.routing_key == "chat.r%C3%A4um.token"
    assert message.properties.message_id == "j1:2:3"
    assert message.properties.type == "token"
    assert message.properties.correlation_id == "j1"
    assert message.properties.timestamp == NOON
    assert message.properties.content_type == "application/json"
    assert message.properties.app_id == "aimicromind-worker"
    assert message.properties.delivery_mode == 2
    assert message.properties.headers == {
        "attempt": 2,
        "seq": 3,
        "chatflowId": "flow",
        "x-stream-filter-value": "räum",
    }


def test_correlation_id_and_trace_of_the_job_are_carried() -> None:
    properties = encode(TOKEN, correlation_id="mine", traceparent="00-a-b-01").properties

    assert properties.correlation_id == "mine"
    assert properties.headers["traceparent"] == "00-a-b-01"


def test_repeated_end_has_the_same_message_id_whatever_its_number() -> None:
    assert encode(generic("end", {})).properties.message_id == "j1:end"


def test_body_is_in_no_repr() -> None:
    assert "Once" not in repr(encode(TOKEN))


@given(st.data())
@pytest.mark.parametrize("name", sorted(DATA))
def test_decoding_undoes_encoding_of_every_class(name: str, data: st.DataObject) -> None:
    event = data.draw(events(name))

    message = encode(event)

    assert type(event) is not GenericEvent
    assert decode(message.body) == event
    assert type(decode(message.body)) is type(event)
    assert parse_routing_key(message.routing_key) == (event.chat_id, name)


@given(unknown_names.flatmap(events))
def test_decoding_undoes_encoding_of_unknown_events(event: GenericEvent) -> None:
    try:
        message = encode(event)
    except RoutingKeyTooLong:
        return

    assert decode(message.body) == event


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(sorted(EVENT_NAMES)))
def test_any_chat_that_fits_can_be_told_any_event(chat_id: str, name: str) -> None:
    event = generic(name, None).model_copy(update={"chat_id": chat_id})

    if chat_fits(chat_id):
        assert parse_routing_key(encode(event).routing_key) == (chat_id, name)


@pytest.mark.parametrize("data", ["\ud83d", "a\u2028b\u0085c\x00", "data: x\n\n", "😀"])
def test_token_of_any_text_survives(data: str) -> None:
    event = TOKEN.model_copy(update={"data": data})

    assert decode(encode(event).body) == event


def test_text_is_written_in_utf_8_where_it_can_be() -> None:
    assert "日本".encode() in encode(TOKEN.model_copy(update={"data": "日本"})).body


@pytest.mark.parametrize("data", [float("nan"), [float("nan"), float("inf")]])
def test_number_that_json_does_not_know_is_refused(data: object) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        encode(generic("own", data))


def test_data_nested_without_end_is_refused() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]

    with pytest.raises(ValueError, match="nested"):
        encode(generic("own", nested))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b'"token"',
        encode(TOKEN).body[:-1],
        encode(TOKEN).body.replace(b'"Once"', b"NaN"),
        encode(TOKEN).body.replace(b'"Once"', b"-Infinity"),
        encode(TOKEN).body.replace(b'"Once"', b"[" * 100_000 + b"]" * 100_000),
    ],
)
def test_body_that_is_no_json_object_is_not_an_event(body: bytes) -> None:
    with pytest.raises(NotAnEvent) as caught:
        decode(body)

    assert caught.value.unreadable == ()


TOOLS = encode(an_event("usedTools", [{"tool": "t", "toolInput": {}, "toolOutput": "X"}])).body


@pytest.mark.parametrize(
    ("output", "read"),
    [
        (b"1e400", math.inf),
        (b"-1e400", -math.inf),
        (b"9" * 5000, math.inf),
        (b"-" + b"9" * 5000, -math.inf),
        (b"9" * 4000, int("9" * 4000)),
        (b'{"a":1,"a":1e400}', {"a": math.inf}),
        (b'"\\ud83d"', "\ud83d"),
        (b"[" * 3 + b"1e400,3.0" + b"]" * 3, [[[math.inf, 3.0]]]),
    ],
)
def test_whatever_json_a_worker_relays_is_read_as_javascript_reads_it(
    output: bytes, read: object
) -> None:
    event = decode(TOOLS.replace(b'"X"', output))

    assert isinstance(event, UsedToolsEvent)
    assert event.data[0] is not None
    assert event.data[0].tool_output == read
    assert decode(encode(event).body) == event


@pytest.mark.parametrize("depth", [200, 300, 1000, 4900])
def test_deeply_nested_data_is_read_and_written_again(depth: int) -> None:
    body = TOOLS.replace(b'"X"', b'{"a":[' * depth + b"1e400," + b"9" * 5000 + b"]}" * depth)

    event = decode(body)

    assert isinstance(event, UsedToolsEvent)
    assert encode(event).body.count(b'{"a":[') == depth
    assert event.wire()["event"] == "usedTools"


@pytest.mark.parametrize("member", ["attempt", "seq"])
def test_whole_number_may_be_written_with_a_point(member: str) -> None:
    assert getattr(event_from(fields("token", "x", **{member: 3.0})), member) == 3


@given(st.binary())
def test_any_bytes_give_an_event_or_not_an_event(body: bytes) -> None:
    with pytest.raises(NotAnEvent):
        decode(body)
