"""Event streams for properties, and a second decoder that shares nothing with the first."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from hypothesis import strategies as st

from aimicromind_worker.core.endpoint.sse import Frame, SseDecoder

NO_LIMIT = 1 << 30

_WORDS = st.sampled_from(
    [b"", b" ", b"  ", b"x", b": y", b"\xe2\x80\xa8", b"\xc2\x85", b"\xff\xfe", b"\x00", b"{}"]
)
_NAMES = st.sampled_from(
    [b"data", b"event", b"message", b"id", b"retry", b"Data", b"data ", b"", b"\xef\xbb\xbfdata"]
)
_LINES = st.builds(
    lambda name, colon, value: name + colon + value,
    _NAMES,
    st.sampled_from([b":", b": ", b":  ", b""]),
    _WORDS,
)
_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", b"\r\r", b"\r\n\r\n", b"\n\r", b""])
_STRUCTURED = st.lists(_LINES | _ENDS, max_size=30).map(b"".join)
_BROKEN = st.lists(st.sampled_from([bytes((byte,)) for byte in b"data:evnt \r\n\xef\xbb\xbf\x00"]))

streams = st.builds(
    lambda bom, body: bom + body,
    st.sampled_from([b"", b"\xef\xbb\xbf", b"\xef\xbb", b"\xef\xbb\xbf\xef\xbb\xbf"]),
    _STRUCTURED | _BROKEN.map(b"".join),
)
"""Streams of lines, good and bad, with every kind of line end."""


def cut(stream: bytes, places: Sequence[int]) -> list[bytes]:
    """Cut a stream at these places; equal ones give empty chunks."""
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


def decoded(chunks: Sequence[bytes], max_frame_bytes: int = NO_LIMIT) -> list[Frame]:
    decoder = SseDecoder(max_frame_bytes)
    frames = [frame for chunk in chunks for frame in decoder.feed(chunk)]
    return [frame for frame in frames if isinstance(frame, Frame)]


def by_the_standard(stream: bytes) -> list[Frame]:
    """Decode as WHATWG HTML 9.2.6 tells it: line by line, field by field, buffer by buffer."""
    frames: list[Frame] = []
    data, event = b"", b""
    for line in _lines(stream.removeprefix(b"\xef\xbb\xbf")):
        if line == b"":
            if data != b"":
                frames.append(Frame(event, data[:-1]))
            data, event = b"", b""
            continue
        if line[0:1] == b":":
            continue
        colon = line.find(b":")
        name = line if colon < 0 else line[:colon]
        value = b"" if colon < 0 else line[colon + 1 :]
        if value[0:1] == b" ":
            value = value[1:]
        if name == b"data":
            data += value + b"\n"
        if name == b"event":
            event = value
    return frames


def _lines(stream: bytes) -> Iterator[bytes]:
    """Give the lines that are ended; what follows the last end is no line."""
    line = bytearray()
    place = 0
    while place < len(stream):
        byte = stream[place]
        place += 1
        if byte not in b"\r\n":
            line.append(byte)
            continue
        if byte == ord("\r") and stream[place : place + 1] == b"\n":
            place += 1
        yield bytes(line)
        line.clear()
