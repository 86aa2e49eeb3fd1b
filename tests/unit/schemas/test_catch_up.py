import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas import chat_fits
from aimicromind_schemas.messages.catch_up import (
    CatchUpRequest,
    InvalidCatchUp,
    NotASnapshot,
    SeenUpTo,
    Snapshot,
    decode_catch_up,
    decode_snapshot,
)
from tests.unit.schemas.samples import SECRET
from tests.unit.schemas.strategies import ids, json_values, texts

counts = st.integers(0, 2**40)
chats = texts.filter(lambda text: bool(text) and chat_fits(text))
requests = st.builds(CatchUpRequest, chats) | st.builds(
    CatchUpRequest, chats, ids, st.none() | st.builds(SeenUpTo, counts, counts)
)
bodies = json_values.map(lambda value: json.dumps({"data": value}).encode())
snapshots = st.builds(
    lambda job, chat, attempt, events, part, more, complete_from: Snapshot(
        job, chat, attempt, tuple(events), part, part + more, complete_from
    ),
    st.none() | ids,
    chats,
    counts,
    st.lists(bodies, max_size=5),
    st.integers(1, 99),
    st.integers(0, 99),
    st.none() | counts,
)


def refusal(**named: object) -> str:
    with pytest.raises(InvalidCatchUp) as caught:
        decode_catch_up(json.dumps({"catchUp": named}).encode())
    return str(caught.value)


def unread(**changed: object) -> str:
    snapshot = {"jobId": "j", "chatId": "c", "attempt": 1, "events": [], "part": 1, "parts": 1}
    with pytest.raises(NotASnapshot) as caught:
        decode_snapshot(json.dumps(snapshot | changed).encode())
    return str(caught.value)


@given(requests)
def test_request_is_read_as_it_was_written(request: CatchUpRequest) -> None:
    assert decode_catch_up(request.encode()) == request


def test_request_has_the_form_of_the_contract() -> None:
    request = CatchUpRequest("c-1", "j-1", SeenUpTo(2, 17))

    assert json.loads(request.encode()) == {
        "catchUp": {"chatId": "c-1", "jobId": "j-1", "after": {"attempt": 2, "seq": 17}}
    }


def test_null_and_empty_count_as_absent_and_others_are_skipped() -> None:
    named: dict[str, object] = {"chatId": 7, "jobId": None, "after": {}, "more": SECRET}

    assert decode_catch_up(json.dumps({"catchUp": named}).encode()) == CatchUpRequest("7")


def test_refusals_name_the_field_and_quote_no_value() -> None:
    assert "chatId" in refusal()
    assert "chatId" in refusal(chatId="x" * 229)
    assert "jobId" in refusal(chatId="c", jobId=f"{SECRET} ")
    assert "jobId takes a string" in refusal(chatId="c", jobId=[1])
    assert "name the job" in refusal(chatId="c", after={"attempt": 1, "seq": 0})
    for after in ({"attempt": 1}, {"attempt": 1, "seq": -1}, {"attempt": True, "seq": 0}, SECRET):
        problem = refusal(chatId="c", jobId="j", after=after)
        assert "after takes" in problem
        assert SECRET not in problem


def test_request_of_more_than_4_kib_is_not_read() -> None:
    with pytest.raises(InvalidCatchUp, match="4096 bytes"):
        decode_catch_up(b'{"catchUp":{"chatId":"c"}}' + b" " * 4096)


@given(st.binary() | json_values.map(lambda value: json.dumps({"catchUp": value}).encode()))
def test_whatever_comes_is_a_request_or_refused(body: bytes) -> None:
    with suppress(InvalidCatchUp):
        decode_catch_up(body)


@given(snapshots)
def test_snapshot_is_read_as_it_was_written(snapshot: Snapshot) -> None:
    assert decode_snapshot(snapshot.encode()) == snapshot


def test_snapshot_has_the_form_of_the_contract() -> None:
    body = Snapshot("j", "c", 1, (b'{"seq":0}', b'{"seq":1}'), 1, 2).encode()

    assert json.loads(body) == {
        "jobId": "j",
        "chatId": "c",
        "attempt": 1,
        "part": 1,
        "parts": 2,
        "events": [{"seq": 0}, {"seq": 1}],
    }


def test_events_keep_their_bytes() -> None:
    odd = (b'{ "a" : "\\u00fc" }', b'{"b":\n[1.50]}')

    assert decode_snapshot(Snapshot("j", "c", 1, odd, 1, 1).encode()).events == odd


def test_event_with_half_an_emoji_or_a_number_beyond_a_double_is_read() -> None:
    odd = (b'{"a":1e400}', b'{"a":"\\ud83d"}')

    read = decode_snapshot(Snapshot("j", "c", 1, odd, 1, 1).encode()).events

    assert [json.loads(event)["a"] for event in read] == [float("inf"), "\ud83d"]


def test_event_nested_deeper_than_msgspec_reads_is_read() -> None:
    deep = b'{"data":' + b"[" * 9_000 + b"]" * 9_000 + b"}"

    assert decode_snapshot(Snapshot("j", "c", 1, (deep,), 1, 1).encode()).events == (deep,)


def test_what_is_no_snapshot_is_named_without_its_values() -> None:
    assert "$.part" in unread(part=SECRET)
    assert SECRET not in unread(part=SECRET)
    assert "$.events" in unread(events={})
    assert "chatId" in unread(chatId=None)
    for changed in ({"part": 0}, {"part": 2}, {"attempt": -1}, {"completeFrom": -1}):
        assert "out of range" in unread(**changed)


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_is_a_snapshot_or_refused(body: bytes) -> None:
    with suppress(NotASnapshot):
        decode_snapshot(body)


def test_snapshot_shows_no_event_in_its_repr() -> None:
    assert SECRET not in repr(Snapshot("j", "c", 1, (SECRET.encode(),), 1, 1))
