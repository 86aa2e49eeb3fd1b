import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aimicromind_schemas import FailureKind
from aimicromind_schemas.wire import load_json
from aimicromind_testing import Recording, recording_names
from aimicromind_worker.core.endpoint.errors import StreamCut
from aimicromind_worker.core.endpoint.frames import EndpointEvent, read_frame, wrapped
from aimicromind_worker.core.endpoint.sse import Frame
from tests.support.builders import MODERATE
from tests.unit.core.endpoint.streams import decoded, streams


def read(data: bytes) -> EndpointEvent:
    event = read_frame(Frame(b"", data))
    assert event is not None
    return event


def test_name_and_data_come_from_the_envelope_as_they_were_written() -> None:
    event = read(b'{"event":"usedTools","data":[{"tool":"t", "toolInput":{"n":1.50}},null]}')

    assert event == EndpointEvent("usedTools", b'[{"tool":"t", "toolInput":{"n":1.50}},null]')


def test_token_keeps_its_escapes() -> None:
    assert read(rb'{"data":"a\u00e9\n\"","event":"token"}').data == rb'"a\u00e9\n\""'


def test_frame_that_names_itself_message_is_an_envelope() -> None:
    frame = Frame(b"message", b'{"event":"token","data":"Once"}')

    assert read_frame(frame) == EndpointEvent("token", b'"Once"')


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        (b"token", b"Once upon\na time", '"Once upon\\na time"'),
        (b"token", b"7", '"7"'),
        (b"token", b"", '""'),
        (b"token", b'{"a":1}', r'"{\"a\":1}"'),
        (b"error", b"null", '"null"'),
        (b"start", b"[1]", '"[1]"'),
        (b"end", b"[DONE]", '"[DONE]"'),
        (b"metadata", b'{"chatId": "c"}', '{"chatId":"c"}'),
        (b"usedTools", b"[null]", "[null]"),
        (b"sourceDocuments", b"not json", '"not json"'),
        (b"usageMetadata", b'{"input_tokens":NaN}', r'"{\"input_tokens\":NaN}"'),
        (b"custom", b"1e999", "1e999"),
        (b"custom", b"\xff", '"\ufffd"'),
        (b"custom", rb'"\ud83d"', '"\ufffd"'),
    ],
)
def test_plain_form_is_text_or_json_by_its_name(name: bytes, data: bytes, expected: str) -> None:
    assert read_frame(Frame(name, data)) == EndpointEvent(name.decode(), expected.encode())


def test_plain_name_that_is_not_utf8_is_replaced() -> None:
    event = read_frame(Frame(b"\xffx", b"1"))

    assert event is not None
    assert event.name == "\ufffdx"


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 5000])
def test_huge_number_survives_a_repair(number: str) -> None:
    event = read(b'{"event":"usedTools","data":["\\ud83d",%b]}' % number.encode())

    assert load_json(event.data) == ["\ufffd", float(number)]


@pytest.mark.parametrize("name", ["token", "error", "custom"])
@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        (b"a\xffb", "a\ufffdb"),
        (b"a\xc3", "a\ufffd"),
        (b"\xed\xa0\xbd", "\ufffd\ufffd\ufffd"),
        (rb"a\ud83d", "a\ufffd"),
        (rb"\ude00\ud83d", "\ufffd\ufffd"),
        (rb"\ud83d\ude00", "😀"),
        (b"a\x01\tb\x00", "a\x01\tb\x00"),
        ("\u2028\u2029\u0085\ufeff".encode(), "\u2028\u2029\u0085\ufeff"),
    ],
)
def test_text_that_is_not_quite_json_is_repaired(name: str, written: bytes, read_as: str) -> None:
    event = read(b'{"event":"%b","data":"%b"}' % (name.encode(), written))

    assert event.name == name
    assert json.loads(event.data) == read_as


def test_repair_reaches_into_structure_and_names() -> None:
    event = read(b'{"event":"flow\\ud800","data":{"\xff":["\\udfff\x02"]}}')

    assert event.name == "flow\ufffd"
    assert json.loads(event.data) == {"\ufffd": ["\ufffd\x02"]}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'[{"type":"text","text":"Hi"}]', "Hi"),
        (b'[{"type":"text","text":"Hi"},{"type":"text","text":" you"}]', "Hi you"),
        (b'[{"type":"text_delta","text":"Hi"}]', "Hi"),
        (b'[{"type":"output_text","text":"Hi","annotations":[]}]', "Hi"),
        (b'[{"index":0,"type":"text","text":"Hi"},{"type":"image_url","image_url":{}}]', "Hi"),
        (b'[{"type":"text","text":{"value":"Hi","annotations":[]}}]', "Hi"),
        (b'[{"text":"Hi"}]', "Hi"),
        (b'["Hi", " you"]', "Hi you"),
        (b'["Hi",{"type":"text","text":" you"},7,null]', "Hi you"),
        (b'{"type":"text","text":"Hi"}', "Hi"),
        (b'{"text":"Hi"}', "Hi"),
        (b'[{"type":"text","text":""}]', ""),
        (b"[]", ""),
        (b'["Hi",1e400]', "Hi"),
        (b'["H\xff"]', "H\ufffd"),
        (rb'[{"type":"text","text":"H\ud83d"}]', "H\ufffd"),
    ],
)
def test_text_parts_of_a_token_are_its_text(data: bytes, text: str) -> None:
    event = read(b'{"event":"token","data":%b}' % data)

    assert (event.name, json.loads(event.data)) == ("token", text)


@pytest.mark.parametrize(
    "data",
    [
        b"5",
        b"null",
        b"true",
        b"{}",
        b'{"content":"a"}',
        b'[{"type":"image_url","image_url":{"url":"x"}}]',
        b'[{"type":"thinking","text":"hm"}]',
        b'[{"type":"tool_use","id":"1"},[["a"]]]',
        b"[null]",
    ],
)
def test_token_that_is_no_string_is_another_event(data: bytes) -> None:
    event = read(b'{"event":"token","data":%b}' % data)

    assert event.name == "other"
    assert json.loads(event.data) == {
        "name": "token",
        "data": json.loads(data.decode("u8", "replace")),
    }


def test_token_without_data_is_another_event() -> None:
    assert read(b'{"event":"token"}') == wrapped("token", b"null")


def test_missing_data_is_null() -> None:
    assert read(b'{"event":"abort"}') == EndpointEvent("abort", b"null")


@pytest.mark.parametrize("duration", [b"1.5", b"0", b"12"])
def test_thinking_keeps_its_duration(duration: bytes) -> None:
    event = read(b'{"event":"thinking","data":"hm","duration":%b}' % duration)

    assert event == EndpointEvent("thinking", b'"hm"', duration)


def test_repair_keeps_the_duration() -> None:
    event = read(b'{"event":"thinking","data":"h\xff","duration":1.5}')

    assert event == EndpointEvent("thinking", '"h\ufffd"'.encode(), b"1.5")


@pytest.mark.parametrize("duration", [b'"\xff"', b'"long"', b"-1", b"1e999", b"{}", b"null"])
def test_duration_that_is_no_time_is_left_out(duration: bytes) -> None:
    event = read(b'{"event":"thinking","data":"hm","duration":%b}' % duration)

    assert event == EndpointEvent("thinking", b'"hm"')


@pytest.mark.parametrize("name", ["token", "usageMetadata"])
def test_duration_beside_other_data_is_left_out(name: str) -> None:
    event = read(b'{"event":"%b","data":"x","duration":3}' % name.encode())

    assert event == EndpointEvent(name, b'"x"')


@pytest.mark.parametrize(
    "data",
    [
        b'"token"',
        b"pong",
        b"[DONE",
        b"[0]",
        b"7",
        b'{"data":"x"}',
        b'{"event":5,"data":"x"}',
        b'{"event":null,"data":"x"}',
        b'{"event":"x","data":NaN}',
        b'{"event":"x","data":[Infinity]}',
        b'{"event":"x","data":1',
        b'{"event":"x","data":1}{"event":"y"}',
        b'{"event":"x","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"event":"x","data":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
    ],
    ids=lambda data: data[:24].decode(),
)
def test_frame_of_neither_form_cuts_the_stream(data: bytes) -> None:
    with pytest.raises(StreamCut) as cut:
        read(data)

    assert cut.value.kind == FailureKind.STREAM_CUT


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b" ", b"\n", b"\t\n ", b"{}", b"[]", b"null", b'""', b" { } "),
        *(b"[DONE]", b'"[DONE]"', b"ping", b"Heartbeat", b"keep-alive", b"keepalive"),
    ],
)
@pytest.mark.parametrize("name", [b"", b"message"])
def test_frame_that_says_nothing_is_skipped(name: bytes, data: bytes) -> None:
    assert read_frame(Frame(name, data)) is None


@pytest.mark.parametrize("name", [b"ping", b"heartbeat", b"of-a-flow"])
@pytest.mark.parametrize("data", [b"", b"  ", b"\n"])
def test_plain_frame_without_data_is_skipped(name: bytes, data: bytes) -> None:
    assert read_frame(Frame(name, data)) is None


def test_cut_tells_the_size_and_nothing_of_the_content() -> None:
    with pytest.raises(StreamCut, match="a frame of 14 bytes") as cut:
        read(b'{"s3cr3t":true')

    assert "s3cr3t" not in str(cut.value)


def test_wrapped_event_keeps_name_and_data() -> None:
    event = wrapped('a"\n\u2028', b'{"n":[1]}')

    assert event.name == "other"
    assert json.loads(event.data) == {"name": 'a"\n\u2028', "data": {"n": [1]}}


@pytest.mark.parametrize("name", recording_names())
def test_recorded_events_pass_unchanged(name: str) -> None:
    recording = Recording.load(name)

    events = [event for it in decoded([recording.body]) if (event := read_frame(it))]

    assert [{"event": it.name, "data": json.loads(it.data)} for it in events] == recording.frames()


PIECES = st.sampled_from(
    [
        *(bytes((byte,)) for byte in b'{}[]:,"x- \\\x00\xff'),
        *(b'"event":', b'"token"', b'"thinking"', b'"data":', b'"duration":'),
        *(b"1.5", b"e9", b"null", b"NaN", b"\\ud83d", "😀\u2028".encode()),
        *(b'{"event":"token","data":"', b'{"event":"thinking","data":'),
    ]
)
NAMES = st.sampled_from([b"", b"message", b"token", b"metadata", b"\xff"])


@MODERATE
@given(name=NAMES, data=st.lists(PIECES, max_size=12).map(b"".join) | st.binary(max_size=40))
@example(name=b"", data=b'{"event":"thinking","data":1,"duration":"\xff"}')
def test_any_bytes_give_an_event_of_json_or_a_cut(name: bytes, data: bytes) -> None:
    assert_event_or_cut(Frame(name, data))


@MODERATE
@given(stream=streams)
def test_any_stream_gives_events_of_json_or_a_cut(stream: bytes) -> None:
    for frame in decoded([stream]):
        assert_event_or_cut(frame)


def assert_event_or_cut(frame: Frame) -> None:
    try:
        event = read_frame(frame)
    except StreamCut:
        return
    if event is None:
        return
    data = json.loads(event.data.decode())
    event.name.encode()
    assert event.name != "token" or isinstance(data, str)
    assert not event.duration or json.loads(event.duration.decode()) >= 0
