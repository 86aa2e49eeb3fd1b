"""Frames beyond the limit that are left out: the stream goes on, and little is kept of them."""

import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_worker.core.endpoint.errors import FrameTooLarge
from aimicromind_worker.core.endpoint.frames import EndpointEvent, may_leave_out, read_frame
from aimicromind_worker.core.endpoint.sse import Frame, LargeFrame, SseDecoder
from tests.support.builders import MODERATE
from tests.unit.core.endpoint.streams import cut

LIMIT = 2048
BEGUN = b'message:\ndata:{"event":"usedTools","data":'


def large(size: int) -> bytes:
    return BEGUN + b'"' + b"x" * (size - len(BEGUN) - 3) + b'"}'


def frames_of(chunks: Sequence[bytes], limit: int = LIMIT) -> list[Frame | LargeFrame]:
    decoder = SseDecoder(limit, may_leave_out)
    return [frame for chunk in chunks for frame in decoder.frames(chunk)]


def outcome(chunks: Sequence[bytes]) -> object:
    try:
        return frames_of(chunks)
    except FrameTooLarge:
        return "too large"


@pytest.mark.parametrize("end", [b"\n\n", b"\r\r", b"\r\n\r\n"])
@pytest.mark.parametrize("size", [LIMIT + 1, LIMIT + 2, LIMIT + 3, 3 * LIMIT, 30_000])
def test_large_frame_is_left_out_however_it_is_cut(size: int, end: bytes) -> None:
    line_end = end[: len(end) // 2]
    stream = b"data: a" + end + large(size).replace(b"\n", line_end) + end + b"data: b" + end

    frames = frames_of([stream])

    kept = large(size)[:1024]
    assert frames == [Frame(b"", b"a"), LargeFrame(kept, size), Frame(b"", b"b")]
    places = (*range(8), *range(LIMIT - 8, LIMIT + 30), *range(len(stream) - 24, len(stream)))
    assert all(frames_of(cut(stream, [place])) == frames for place in places)
    assert frames_of([bytes((byte,)) for byte in stream]) == frames


@MODERATE
@given(
    sizes=st.lists(st.integers(60, 70) | st.integers(LIMIT - 2, LIMIT + 2), max_size=6),
    places=st.lists(st.integers(0, 20_000), max_size=8),
)
def test_any_cut_leaves_out_the_same(sizes: list[int], places: list[int]) -> None:
    stream = b"".join(large(size) + b"\n\n" for size in sizes)

    assert outcome(cut(stream, places)) == outcome([stream])


def test_size_is_that_of_the_data() -> None:
    data = b'[{"tool":"t","toolInput":{},"toolOutput":"%b"}]' % (b"x" * 30_000)

    for begun in (b"data:", b"message:\ndata: ", b": hm\nid: 7\ndata:"):
        (frame,) = frames_of([begun + b'{"event":"usedTools","data":%b}\n\n' % data])
        assert read_frame(frame) == EndpointEvent("usedTools", b"null", truncated_bytes=len(data))


@pytest.mark.parametrize(
    ("begun", "name"),
    [
        (b'data:{"event":"usedTools","data":"', "usedTools"),
        (b'data: { "event" : "of-a-flow" , "data" : "', "of-a-flow"),
        (b'event: message\ndata:{"event":"action","data":"', "action"),
        (b'data:{"event":"agent\\u0046lowExecutedData","data":"', "agentFlowExecutedData"),
        (b'data:{"event":"fl\xffow","data":"', "fl\ufffdow"),
        (b'data:{"event":"flow\\ud800","data":"', "flow\ufffd"),
        (b'data:{"event":"thinking","duration":1.5,"data":"', "thinking"),
        (b'data:{"event":"start","data":"', "start"),
        (b"event: sourceDocuments\ndata: ", "sourceDocuments"),
        (b"id: 7\nevent: of-a-flow\ndata:", "of-a-flow"),
    ],
)
def test_name_is_read_from_the_beginning(begun: bytes, name: str) -> None:
    (frame,) = frames_of([begun, b"x" * LIMIT, b'"}\n\n'])
    event = read_frame(frame)

    assert event is not None
    assert (event.name, event.data) == (name, b"null")
    assert abs(event.truncated_bytes - LIMIT) < 40


@pytest.mark.parametrize(
    "begun",
    [
        *(b'data:{"event":"%b","data":"' % it for it in (b"token", b"metadata", b"error", b"end")),
        *(b"event: %b\ndata: " % it for it in (b"token", b"metadata", b"error", b"end")),
        b'data:{"event":"to\\u006ben","data":"',
        b'data:{"data":"',
        b'data:{"data":1,"event":"usedTools","more":"',
        b'data:{"event":7,"data":"',
        b'data:{"event":"","data":"',
        b'data:{"event":"\\x","data":"',
        b'data:{"event":"' + b"x" * 2000 + b'","data":"',
        b'data:{\ndata:"event":"usedTools","data":"',
        b"data: ",
        b": ",
        b"",
        b"\xff",
        b"event: usedTools\n: ",
    ],
)
def test_frame_that_an_answer_needs_or_nobody_can_name_is_too_large(begun: bytes) -> None:
    with pytest.raises(FrameTooLarge):
        frames_of([begun, b"x" * LIMIT, b"xx"])
    with pytest.raises(FrameTooLarge):
        frames_of([begun + b"x" * LIMIT + b"x\n\n"])


def test_frame_without_end_is_too_large_in_the_end() -> None:
    decoder = SseDecoder(LIMIT, may_leave_out)
    decoder.feed(BEGUN)
    tracemalloc.start()

    for _ in range(63):
        decoder.feed(b"x" * LIMIT)
    with pytest.raises(FrameTooLarge):
        decoder.feed(b"x" * LIMIT)

    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20 * LIMIT


def test_frame_of_64_times_the_limit_is_left_out() -> None:
    assert frames_of([large(64 * LIMIT) + b"\n\n"]) == [LargeFrame(large(2048)[:1024], 64 * LIMIT)]
    assert outcome([large(64 * LIMIT + 1) + b"\n\n"]) == "too large"
