from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands
from pamqp.frame import marshal
from pamqp.heartbeat import Heartbeat
from typing_extensions import override

from aimicromind_schemas.client.transport.demultiplexer import (
    FrameDemultiplexer,
    FrameHandler,
    method_of,
)
from aimicromind_schemas.client.transport.message_guard import method_number

_OURS, _OTHERS = 1, 2
_HEARTBEAT = marshal(Heartbeat(), 0)


class Acks(FrameHandler):
    """Takes acks and leaves what else comes by its channel."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    @override
    def take(self, frame: bytes) -> bool:
        if method_of(frame) != method_number(commands.Basic.Ack):
            return False
        self.taken.append(frame)
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


frames = st.one_of(
    st.builds(
        lambda channel, tag: marshal(commands.Basic.Ack(delivery_tag=tag), channel),
        st.sampled_from([_OURS, _OTHERS]),
        st.integers(1, 2**63 - 1),
    ),
    st.builds(
        lambda channel, text: marshal(commands.Channel.Close(200, text, 0, 0), channel),
        st.sampled_from([_OURS, _OTHERS]),
        st.text("aé", max_size=100),
    ),
    st.just(_HEARTBEAT),
)


def is_ours(frame: bytes) -> bool:
    return frame[:3] == b"\1\0\1" and method_of(frame) == method_number(commands.Basic.Ack)


@given(st.lists(frames, max_size=30), st.lists(st.integers(0, 2000), max_size=10))
def test_frames_cut_anywhere_are_parted_whole_and_in_order(
    sent: list[bytes], places: list[int]
) -> None:
    clock, acks = Clock(), Acks()
    demultiplexer = FrameDemultiplexer(clock)
    demultiplexer.handlers[_OURS] = acks
    demultiplexer.part(marshal(commands.Basic.Ack(delivery_tag=1), _OURS))
    acks.taken.clear()
    data, left = b"".join(sent), b""
    cuts = sorted({0, *(place for place in places if place < len(data)), len(data)})

    for begin, end in pairwise(cuts):
        left += demultiplexer.part(data[begin:end])

    assert acks.taken == [frame for frame in sent if is_ours(frame)]
    assert left == b"".join(frame for frame in sent if not is_ours(frame))
    assert demultiplexer.rest() == b""


def test_what_a_connection_cuts_off_is_left_once() -> None:
    demultiplexer = FrameDemultiplexer()
    whole = marshal(commands.Channel.CloseOk(), _OTHERS)

    assert demultiplexer.part(whole + whole[:9]) == whole
    assert demultiplexer.rest() == whole[:9]
    assert demultiplexer.rest() == b""


def test_broker_that_wants_another_protocol_is_heard() -> None:
    assert FrameDemultiplexer().part(b"AMQP\x00\x00\x09\x01") == b"AMQP\x00\x00\x09\x01"


@pytest.mark.parametrize("seconds", [1, 10, 1000])
def test_one_who_hears_nothing_gets_a_heartbeat_for_each_second_in_which_something_came(
    seconds: int,
) -> None:
    clock = Clock()
    demultiplexer = FrameDemultiplexer(clock)
    demultiplexer.handlers[_OURS] = Acks()
    heard = b""

    for _ in range(seconds):
        clock.now += 1.01
        for tag in range(5):
            heard += demultiplexer.part(marshal(commands.Basic.Ack(delivery_tag=tag), _OURS))

    assert heard == _HEARTBEAT * seconds
    assert demultiplexer.part(b"") == b""
