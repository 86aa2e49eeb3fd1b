import asyncio

import httpx
import pytest

from aimicromind_testing import Recording, ScriptedEndpoint, play, recording_names
from tests.support.amqp import WITHIN_S

QUESTION = {"question": "q", "streaming": True, "chatId": "chat"}


async def fetched(url: str, recording: Recording) -> tuple[httpx.Response, bytes, str]:
    """Fetch an answer; give its raw body and how it ended for the client."""
    body = b""
    async with (
        httpx.AsyncClient() as client,
        client.stream("POST", url, json=QUESTION, timeout=WITHIN_S) as response,
    ):
        parts = response.aiter_raw()
        try:
            while True:
                hangs = recording.ending == "hangs" and len(body) >= len(recording.body)
                async with asyncio.timeout(0.3 if hangs else WITHIN_S):
                    body += await anext(parts)
        except StopAsyncIteration:
            return response, body, "complete"
        except TimeoutError:
            return response, body, "hangs"
        except httpx.RemoteProtocolError:
            return response, body, "truncated"


def test_there_are_recordings() -> None:
    assert len(recording_names()) == 39


@pytest.mark.parametrize("name", recording_names())
def test_arrivals_make_up_the_body(name: str) -> None:
    recording = Recording.load(name)

    assert sum(arrival.size_bytes for arrival in recording.arrivals) == len(recording.body)
    assert list(recording.arrivals) == sorted(recording.arrivals, key=lambda it: it.seconds)


@pytest.mark.parametrize("name", recording_names())
async def test_recording_is_played_byte_for_byte(name: str) -> None:
    recording = Recording.load(name)
    async with ScriptedEndpoint() as endpoint:
        endpoint.flow("flow", play(recording, pace=0))

        response, body, ending = await fetched(f"{endpoint.url}/api/v1/prediction/flow", recording)

    assert response.status_code == recording.status
    sent = [(name.decode(), value.decode()) for name, value in response.headers.raw]
    assert sent == list(recording.headers)
    assert body == recording.body
    assert ending == recording.ending


async def test_recording_keeps_its_own_pace() -> None:
    recording = Recording.load("a-newline")
    async with ScriptedEndpoint() as endpoint:
        endpoint.flow("flow", play(recording), play(recording, pace=2))

        for _ in range(2):
            await fetched(f"{endpoint.url}/api/v1/prediction/flow", recording)

        took = [(call.ended or 0) - call.started for call in endpoint.calls]

    last = Recording.load("a-newline").arrivals[-1].seconds
    late = 3  # on a busy machine
    assert last <= took[0] < last + late
    assert 2 * last <= took[1] < 2 * last + late


def test_frames_leave_out_comments_and_keep_the_order() -> None:
    events = [frame["event"] for frame in Recording.load("model-slow-heartbeats").frames()]

    assert events == ["start", *["token"] * 6, "metadata", "end"]


def test_answer_that_is_no_stream_has_no_frames() -> None:
    assert Recording.load("e-nostream").frames() == []
