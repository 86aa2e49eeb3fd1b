"""Frames of messages, of any content → frames that pamqp reads, the neighbours' untouched."""

from collections.abc import Iterator
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.frame import FrameTypes, marshal, unmarshal
from pamqp.header import ContentHeader

from aimicromind_schemas.client.transport.message_guard import (
    KEPT_BYTES,
    LONGEST_BODY_BYTES,
    MessageGuard,
)
from aimicromind_schemas.client.transport.message_header import noted
from tests.support.amqp_bytes import content_headers

_PART = 131_064
_short = st.binary(max_size=60).map(lambda it: bytes([len(it)]) + it)


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return bytes([kind]) + channel.to_bytes(2) + len(payload).to_bytes(4) + payload + b"\xce"


def method(of: type[Frame], *arguments: bytes) -> bytes:
    return frame(1, 1, of.index.to_bytes(4) + b"".join(arguments))


def message(channel: int, body: bytes, size: int | None = None) -> Iterator[bytes]:
    """The frames that follow a method: the header, and the body in parts."""
    yield marshal(ContentHeader(body_size=len(body) if size is None else size), channel)
    for at in range(0, len(body), _PART):
        yield marshal(ContentBody(body[at : at + _PART]), channel)


def frames_in(data: bytes) -> list[tuple[int, FrameTypes]]:
    found = []
    while data:
        length, channel, read = unmarshal(data)
        found.append((channel, read))
        data = data[length:]
    return found


@given(_short, _short, _short)
def test_text_of_methods_is_read(one: bytes, two: bytes, three: bytes) -> None:
    guard = MessageGuard()
    written = (
        method(commands.Basic.Deliver, one, bytes(9), two, three),
        method(commands.Basic.GetOk, bytes(9), one, two, bytes(4)),
        method(commands.Basic.Return, bytes(2), one, two, three),
        method(commands.Basic.Cancel, one, b"\1"),
        method(commands.Channel.Close, bytes(2), one, bytes(4)),
        method(commands.Connection.Close, bytes(2), one, bytes(4)),
        method(commands.Connection.Blocked, one),
    )

    for each in written:
        passed = guard.passed(each)
        length, _, _ = unmarshal(passed)
        assert length == len(passed) == len(each)
        assert passed == each or not all(text.isascii() for text in (one, two, three))


@given(content_headers())
def test_header_of_any_message_is_read(payload: bytes) -> None:
    passed = MessageGuard().passed(frame(2, 7, payload))

    if passed:
        length, channel, read = unmarshal(passed)
        assert (length, channel, type(read)) == (len(passed), 7, ContentHeader)
    else:
        assert int.from_bytes(payload[4:12]) > LONGEST_BODY_BYTES


@given(
    st.lists(
        st.builds(
            frame,
            st.sampled_from([1, 2, 3, 8]),
            st.integers(0, 3),
            st.one_of(
                st.binary(max_size=300),
                st.builds(
                    bytes.__add__,
                    st.sampled_from([b"\0\x3c\0\x3c", b"\0\x3c\0\x32", b"\0\x0a\0\x32"]),
                    st.binary(max_size=20),
                ),
            ),
        ),
        max_size=20,
    )
)
def test_no_frame_whatever_it_holds_is_a_fault_of_the_guard(frames: list[bytes]) -> None:
    guard = MessageGuard()
    guard.admits[1] = lambda size: size < 100

    for each in frames:
        guard.passed(each)


@pytest.mark.parametrize("size", [0, 1, _PART, _PART + 1, LONGEST_BODY_BYTES])
def test_body_that_is_not_too_long_comes_whole(size: int) -> None:
    guard, written = MessageGuard(), list(message(3, b"x" * size))

    assert [guard.passed(each) for each in written] == written


def test_body_that_is_too_long_is_read_and_only_its_beginning_passed_on() -> None:
    guard = MessageGuard()
    body = bytes(range(256)) * (LONGEST_BODY_BYTES // 256) + b"!"
    *before, last = message(3, body)

    assert b"".join(map(guard.passed, before)) == b""
    (_, header), (channel, kept) = frames_in(guard.passed(last))

    assert isinstance(header, ContentHeader)
    assert isinstance(kept, ContentBody)
    assert (channel, header.body_size, kept.value) == (3, KEPT_BYTES, body[:KEPT_BYTES])
    note = noted(header.properties.headers)
    assert (note.body_bytes, note.digest) == (len(body), sha256(body).hexdigest())


def test_body_that_finds_no_room_leaves_its_size_and_digest() -> None:
    guard = MessageGuard()
    guard.admits[3] = lambda size: size != 4
    (before, last), others = message(3, b"body"), list(message(4, b"body"))

    assert guard.passed(before) == b""
    assert [guard.passed(each) for each in others] == others
    ((_, header),) = frames_in(guard.passed(last))

    assert isinstance(header, ContentHeader)
    assert header.body_size == 0
    assert noted(header.properties.headers).digest == sha256(b"body").hexdigest()


def test_message_after_one_that_was_cut_comes_whole() -> None:
    guard = MessageGuard()
    guard.admits[3] = lambda size: size < 4
    written = [*message(3, b"long"), *message(3, b"abc"), *message(3, b"")]

    passed = [guard.passed(each) for each in written]

    assert passed[2:] == written[2:]


def test_frame_of_a_body_that_is_empty_says_nothing() -> None:
    assert MessageGuard().passed(frame(3, 1, b"")) == b""
