import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aimicromind_testing import Recording, recording_names
from tests.support.builders import MODERATE
from tests.unit.core.endpoint.streams import by_the_standard, cut, decoded, streams

RECORDINGS = [Recording.load(name) for name in recording_names()]
recordings = pytest.mark.parametrize("recording", RECORDINGS, ids=recording_names())
PLACES = st.lists(st.integers(0, 1 << 20), max_size=12)


@MODERATE
@given(stream=streams)
@example(stream=b"\xef\xbb\xbfdata: a\r\n\r\ndata\r\r")
def test_decoder_agrees_with_the_standard_taken_literally(stream: bytes) -> None:
    assert decoded([stream]) == by_the_standard(stream)


@MODERATE
@given(stream=streams, places=PLACES)
def test_any_cut_gives_the_same_frames(stream: bytes, places: list[int]) -> None:
    assert decoded(cut(stream, places)) == decoded([stream])


@MODERATE
@given(stream=streams)
def test_single_bytes_give_the_same_frames(stream: bytes) -> None:
    assert decoded([bytes((byte,)) for byte in stream]) == decoded([stream])


@MODERATE
@given(recording=st.sampled_from(RECORDINGS), places=PLACES)
def test_any_cut_of_a_recording_gives_the_same_frames(
    recording: Recording, places: list[int]
) -> None:
    assert decoded(cut(recording.body, places)) == decoded([recording.body])


@MODERATE
@given(recording=st.sampled_from(RECORDINGS), places=PLACES, end=st.sampled_from([b"\r", b"\r\n"]))
def test_recordings_may_have_other_line_ends(
    recording: Recording, places: list[int], end: bytes
) -> None:
    body = recording.body.replace(b"\n", end)

    assert decoded(cut(body, places)) == decoded([recording.body])


@recordings
def test_recording_is_read_as_the_standard_has_it(recording: Recording) -> None:
    assert decoded([recording.body]) == by_the_standard(recording.body)


@recordings
def test_recording_gives_the_frames_that_were_recorded(recording: Recording) -> None:
    streamed = ("Content-Type", "text/event-stream") in recording.headers

    frames = decoded([recording.body])

    assert [json.loads(frame.data) for frame in frames] == recording.frames()
    assert bool(frames) == streamed
