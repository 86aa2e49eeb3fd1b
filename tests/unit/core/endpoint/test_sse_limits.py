import time
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas import FailureKind
from aimicromind_worker.core.endpoint.errors import FrameTooLarge
from aimicromind_worker.core.endpoint.sse import SseDecoder
from tests.support.builders import MODERATE
from tests.unit.core.endpoint.streams import cut, decoded

LIMIT = 100


def outcome(chunks: Sequence[bytes]) -> str:
    try:
        return f"{len(decoded(chunks, LIMIT))} frames"
    except FrameTooLarge:
        return "too large"


def test_giant_line_is_refused_before_it_ends() -> None:
    decoder = SseDecoder(LIMIT)
    decoder.feed(b"data:" + b"x" * 90)

    with pytest.raises(FrameTooLarge, match="100 bytes") as refused:
        decoder.feed(b"x" * 10)

    assert refused.value.kind == FailureKind.TOO_LARGE


def test_giant_frame_that_comes_whole_is_refused() -> None:
    with pytest.raises(FrameTooLarge):
        decoded([b"data:" + b"x" * LIMIT + b"\n\n"], LIMIT)


def test_giant_frame_of_small_lines_is_refused() -> None:
    with pytest.raises(FrameTooLarge):
        decoded([b"data:x\n"] * 20, LIMIT)


def test_limit_holds_for_one_frame_not_for_the_stream() -> None:
    assert len(decoded([b"data:" + b"x" * 80 + b"\n\n"] * 50, LIMIT)) == 50


@pytest.mark.parametrize("size", range(LIMIT - 3, LIMIT + 4))
@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_limit_is_the_same_however_the_frame_is_cut(size: int, end: bytes) -> None:
    stream = b"data:".ljust(size, b"x") + end + end
    expected = "1 frames" if size <= LIMIT else "too large"

    assert outcome([stream]) == expected
    assert {outcome(cut(stream, [place])) for place in range(len(stream))} == {expected}
    assert outcome([bytes((byte,)) for byte in stream]) == expected


@MODERATE
@given(
    sizes=st.lists(st.integers(0, 9) | st.integers(LIMIT - 2, LIMIT + 2), max_size=8),
    places=st.lists(st.integers(0, 10_000), max_size=8),
)
def test_any_cut_meets_the_limit_the_same_way(sizes: list[int], places: list[int]) -> None:
    stream = b"".join(b"data:".ljust(size, b"x")[:size] + b"\n\n" for size in sizes)

    assert outcome(cut(stream, places)) == outcome([stream])


def test_time_grows_with_the_bytes_and_not_with_their_square() -> None:
    byte, size = b"x", 128 * 1024

    def seconds(pieces: int) -> float:
        decoder = SseDecoder(4 * 1024 * 1024)
        began = time.process_time()
        for _ in range(pieces):
            decoder.feed(byte)
        return time.process_time() - began

    small = min(seconds(size // 16) for _ in range(3))
    large = min(seconds(size) for _ in range(2))

    # The square of 16 would be 256.
    assert large < small * 80


def test_frame_in_tiny_chunks_is_whole() -> None:
    chunks = [b"data:", *[b"x"] * 60_000, b"\n", b"\n"]

    (frame,) = decoded(chunks)

    assert frame.data == b"x" * 60_000


def test_frame_in_tiny_chunks_takes_no_more_memory_than_a_whole_one() -> None:
    decoder, size = SseDecoder(4 * 1024 * 1024), 128 * 1024
    tracemalloc.start()

    try:
        for number in range(size // 2):
            decoder.feed(b"%02d" % (number % 100))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # A list of its chunks would take 22 times as much.
    assert most < 3 * size
