import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas import FailureKind
from aimicromind_testing import Recording
from aimicromind_worker.core.endpoint.call_failed import CallFailed
from aimicromind_worker.core.endpoint.errors import EndpointError
from aimicromind_worker.core.endpoint.frames import EndpointEvent
from aimicromind_worker.core.endpoint.json_answer import events_of
from tests.support.builders import BRIEF, an_answer


def read(body: bytes) -> list[tuple[str, Any]]:
    return [(event.name, json.loads(event.data)) for event in events_of(body)]


def read_fields(**fields: object) -> list[tuple[str, Any]]:
    return read(json.dumps(fields, ensure_ascii=False).encode())


def test_recorded_answer_becomes_token_metadata_end() -> None:
    recording = Recording.load("e-nostream")

    events = read(recording.body)

    whole = json.loads(recording.body)
    assert events == [
        ("token", whole["text"]),
        (
            "metadata",
            {name: whole[name] for name in ("chatId", "chatMessageId", "question", "sessionId")},
        ),
        ("end", "[DONE]"),
    ]


def test_recorded_answer_is_followed_to_its_success() -> None:
    recording = Recording.load("e-nostream")
    answer = an_answer(question="hello")

    shown = [event.name for it in events_of(recording.body) for event in answer.follow(it)]

    assert shown == ["start", "token", "metadata"]
    assert answer.complete
    assert json.loads(answer.text) == json.loads(recording.body)["text"]


def test_companions_come_between_text_and_metadata() -> None:
    documents = [{"pageContent": "p", "metadata": {}}]
    tools = [{"tool": "t", "toolInput": {}, "toolOutput": 1}]

    events = read_fields(
        memoryType="Buffer", usedTools=tools, sourceDocuments=documents, text="a", other=1
    )

    assert events == [
        ("token", "a"),
        ("sourceDocuments", documents),
        ("usedTools", tools),
        ("metadata", {"memoryType": "Buffer"}),
        ("end", "[DONE]"),
    ]


def test_companion_that_is_null_is_left_out() -> None:
    events = read(b'{"text":"a","usedTools":null,"sourceDocuments": null ,"action":null}')

    assert [name for name, _ in events] == ["token", "metadata", "end"]


def test_structured_answer_is_shown_as_its_json() -> None:
    events = read(b'{"json":{"a":[1, "\\u00e9"]},"question":"q"}')

    assert events[0] == ("token", '{"a":[1, "\\u00e9"]}')


def test_text_goes_before_structure() -> None:
    assert read_fields(json={"a": 1}, text="t")[0] == ("token", "t")


def test_empty_text_is_an_answer() -> None:
    assert read_fields(text="")[0] == ("token", "")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"text":"a\xff"}', "a\ufffd"),
        (rb'{"text":"a\ud83d"}', "a\ufffd"),
        (rb'{"text":"a","usedTools":["\ud83d"]}', "a"),
        (b'{"text":"a\x01\n"}', "a\x01\n"),
    ],
)
def test_text_is_repaired_as_in_a_stream(body: bytes, text: str) -> None:
    assert read(body)[0] == ("token", text)


ADDED = {
    "question": "q",
    "chatId": "c",
    "chatMessageId": "m",
    "followUpPrompts": "[]",
    "isStreamValid": False,
    "sessionId": "s",
    "memoryType": "Buffer",
    "flowVariables": {"a": 1},
    "metrics": [],
}


@pytest.mark.parametrize(
    "own",
    [
        {"temperature": 21, "city": "Oslo"},
        {"list": [], "object": {}, "nested": [{"a": None}], "number": 1.0, "é": "ü\n"},
        {"text": None},
        {"text": None, "json": None, "a": 1},
        {"success": True, "status": "ok", "error": None},
        {"output": {"text": "not this"}},
        {"data": [1, 2], "usedTools": [{"tool": "t"}]},
        {},
    ],
    ids=str,
)
@pytest.mark.parametrize("added", [ADDED, {"question": "q", "chatId": "c"}])
def test_object_of_a_flow_is_shown_as_the_server_saves_it(
    own: dict[str, Any], added: dict[str, Any]
) -> None:
    events = read_fields(**own, **added)

    assert events[0] == ("token", json.dumps(own, indent=2, ensure_ascii=False))
    assert events[-2][1]["chatId"] == "c"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"text":5}', "5"),
        (b'{"text":1e400}', "1e400"),
        (b'{"text":true}', "true"),
        (b'{"text":{"a":[1]}}', '{\n  "a": [\n    1\n  ]\n}'),
        (b'{"text":[1e400]}', "[\n  1e400\n]"),
        (b'{"text":["a"]}', '[\n  "a"\n]'),
        (b'{"text":[]}', "[]"),
        (b'{"text":[{"type":"text","text":"Hi"},{"type":"image_url"}]}', "Hi"),
        (b'{"text":null,"json":{"a":1}}', '{"a":1}'),
        (b"[]", "[]"),
        (b'["a",{"b":1}]', '[\n  "a",\n  {\n    "b": 1\n  }\n]'),
        (b' [{"type":"image","id":1}] ', '[\n  {\n    "type": "image",\n    "id": 1\n  }\n]'),
        (b'"text"', "text"),
        (b"42", "42"),
        (b"false", "false"),
        (rb'["\ud83d"]', '[\n  "\ufffd"\n]'),
    ],
)
def test_any_value_is_an_answer(body: bytes, text: str) -> None:
    events = read(body)

    assert events[0] == ("token", text)
    assert [name for name, _ in events[1:]] == ["metadata", "end"]


def test_long_object_comes_as_it_is_and_no_thousandfold_of_it() -> None:
    nested = b"[" * 500 + b"]" * 500
    body = b"[%b]" % b",".join([nested] * 1000)

    assert read(body)[0] == ("token", body.decode())


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"statusCode":500,"success":false,"message":"whatever","stack":{}}', "endpoint_error"),
        (b'{"success":false,"message":"429 Too Many Requests"}', "rate_limited"),
        (b'{"success":false}', "endpoint_error"),
        (b'{"success":false,"text":"s3cr3t"}', "endpoint_error"),
        (b'{"error":"Unauthorized Access"}', "unauthorized"),
        (b'{"status":"error","message":"Invalid history format. x"}', "bad_request"),
        (b'{"status":"error","text":"s3cr3t"}', "endpoint_error"),
    ],
)
def test_body_that_says_it_is_an_error_is_one(body: bytes, kind: str) -> None:
    with pytest.raises(CallFailed) as failed:
        read(body)

    assert failed.value.kind == kind
    assert "s3cr3t" not in str(failed.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b'{"text":"a"',
        b'{"text":"a","b":NaN}',
        b'{"text":"a","b":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda body: body[:20].decode(),
)
def test_body_that_is_no_answer_is_an_error_of_the_endpoint(body: bytes) -> None:
    with pytest.raises(EndpointError) as failed:
        list(events_of(body))

    assert failed.value.kind == FailureKind.ENDPOINT_ERROR


@BRIEF
@given(st.binary(max_size=60) | st.dictionaries(
    st.sampled_from(["text", "json", "usedTools", "question", "x"]),
    st.none() | st.text(max_size=5) | st.lists(st.integers(), max_size=2),
).map(lambda fields: json.dumps(fields).encode()))  # fmt: skip
def test_any_body_is_an_answer_or_an_error(body: bytes) -> None:
    try:
        events = list(events_of(body))
    except EndpointError:
        return
    assert [events[0].name, *(event.name for event in events[-2:])] == ["token", "metadata", "end"]
    assert isinstance(json.loads(events[0].data), str)
    assert events[-1] == EndpointEvent("end", b'"[DONE]"')
