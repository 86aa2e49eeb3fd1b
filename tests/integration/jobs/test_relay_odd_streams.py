"""What a consumer sees of streams that are slow, malformed, or readable only just."""

from collections.abc import Iterable, Iterator
from itertools import chain, count, cycle, repeat
from typing import Final

import pytest

from aimicromind_testing import (
    END,
    HEARTBEAT,
    Call,
    Finish,
    Head,
    Script,
    Send,
    Stall,
    Step,
    Wait,
    frame,
    send,
)
from tests.integration.stage import Stage
from tests.support.builders import ENDED_WELL, a_job, tokens

OPEN: Final = (Head(), send("start", ""), send("token", "half"))
DRIP: Final = Wait(0.1)
JSON_HEAD: Final = Head(200, (("Content-Type", "application/json"), ("Connection", "close")))


def dripping(pieces: Iterable[bytes]) -> Script:
    """Send the beginning of an answer, then these, one at a time, as long as somebody listens."""

    def steps(_: Call) -> Iterator[Step]:
        yield from OPEN
        for piece in pieces:
            yield from (DRIP, Send(piece))

    return Script(steps)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(Script.of(*OPEN, Stall()), id="no bytes"),
        pytest.param(dripping(repeat(HEARTBEAT)), id="heartbeats only"),
        pytest.param(dripping(repeat(b"x")), id="a frame byte by byte"),
        pytest.param(dripping(repeat(b"data: x\n")), id="a frame line by line"),
        pytest.param(dripping(repeat(b"\n")), id="blank lines"),
        pytest.param(dripping(repeat(b"event: token\n\n")), id="frames without data"),
        pytest.param(dripping(repeat(b"data:\n\n")), id="frames of empty data"),
        pytest.param(dripping(repeat(b"event: ping\ndata:\n\n")), id="pings"),
        pytest.param(dripping(repeat(b"data: {}\n\n")), id="empty objects"),
    ],
)
async def test_stream_that_says_nothing_more_is_broken_off(stage: Stage, script: Script) -> None:
    stage.endpoint.flow("flow", script)
    async with stage.working(idle_timeout_seconds=1, max_calls=1) as chats:
        await stage.put(a_job())
        end = await chats.end_of("job")

        await stage.endpoint.until(lambda: not stage.endpoint.live_calls)
    assert (end["status"], end["text"]) == ("failed", "half")
    assert chats.data("job", "error")[0]["kind"] == "stream_stalled"
    assert 1 <= end["durationSeconds"] < 5


@pytest.mark.parametrize(
    ("script", "text"),
    [
        pytest.param(
            dripping(frame("token", f"{number} ") for number in count()), "half0 1 ", id="tokens"
        ),
        pytest.param(
            Script(lambda _: chain([JSON_HEAD], cycle((Send(b" "), DRIP)))),
            "",
            id="json byte by byte",
        ),
    ],
)
async def test_answer_that_never_ends_is_held_to_the_time_of_an_attempt(
    stage: Stage, script: Script, text: str
) -> None:
    stage.endpoint.flow("flow", script)
    async with stage.working(attempt_timeout_seconds=2, max_calls=1) as chats:
        await stage.put(a_job())
        end = await chats.end_of("job")

    assert end["status"] == "failed"
    assert end["text"].startswith(text)
    assert chats.data("job", "error")[0]["kind"] == "timeout"
    assert end["durationSeconds"] < 6


SAID: Final = tokens("a", "ü", "😀") + ENDED_WELL
EMOJI_AT: Final = SAID.index("😀".encode())


@pytest.mark.parametrize(
    ("sends", "text"),
    [
        pytest.param([SAID.replace(b"\n", b"\r")], "aü😀", id="CR"),
        pytest.param([SAID.replace(b"\n", b"\r\n")], "aü😀", id="CRLF"),
        pytest.param([SAID.replace(b"\n\n", b"\r\n\n")], "aü😀", id="mixed"),
        pytest.param([b"\xef\xbb\xbf" + SAID], "aü😀", id="byte order mark"),
        pytest.param([SAID.replace(b"message:\n", b"")], "aü😀", id="no message line"),
        pytest.param([SAID.replace(b"message:\n", b"message\n")], "aü😀", id="older server"),
        pytest.param([SAID.replace(b"message:\n", b":x\nid: 7\nretry: 5\n")], "aü😀", id="fields"),
        pytest.param([SAID.replace(b',"data"', b',\ndata:"data"')], "aü😀", id="lines of data"),
        pytest.param([HEARTBEAT, SAID, HEARTBEAT], "aü😀", id="comments"),
        pytest.param([SAID[:EMOJI_AT + 1], SAID[EMOJI_AT + 1 :]], "aü😀", id="emoji in pieces"),
        pytest.param([bytes((byte,)) for byte in SAID], "aü😀", id="single bytes"),
        pytest.param([SAID.replace("ü".encode(), b"\xff")], "a\ufffd😀", id="no UTF-8"),
        pytest.param([SAID.replace("ü".encode(), rb"\ud83d")], "a\ufffd😀", id="half a character"),
        pytest.param([SAID.replace("ü".encode(), b"\x00")], "a\x00😀", id="NUL"),
        *(
            pytest.param([SAID.replace(b"message:", it + b"message:")], "aü😀", id=repr(it))
            for it in (
                *(b"data:\n\n", b"data: \n\n", b"data:   \n\n", b"data\n\n", b"data:\r\n\r\n"),
                *(b"data:\ndata:\n\n", b"event: ping\ndata:\n\n", b"event: ping\n\n", b":x\n\n"),
                *(b"retry: 1000\n\n", b"id: 7\n\n", b"data: {}\n\n", b"data: null\n\n"),
                *(b"data: [DONE]\n\n", b"data: ping\n\n", b"event: message\ndata:\n\n"),
            )
        ),
        pytest.param(
            [frame("token", [{"type": "text", "text": "a"}]), frame("token", []), SAID], "aaü😀",
            id="content parts",
        ),
        pytest.param([frame("strange", [None]), SAID], "aü😀", id="unknown event"),
        pytest.param([SAID, b"data: no json\n\n"], "aü😀", id="nonsense after the end"),
        pytest.param(
            [
                b"event: token\ndata: Once upon\ndata: a time\n\n",
                b'event: metadata\ndata: {"chatId":"c"}\n\nevent: end\ndata: [DONE]\n\n',
            ],
            "Once upon\na time",
            id="plain form",
        ),
    ],
)  # fmt: skip
async def test_readable_stream_completes(stage: Stage, sends: list[bytes], text: str) -> None:
    stage.endpoint.flow("flow", Script.of(Head(), *map(Send, sends)))
    async with stage.working(max_calls=1) as chats:
        await stage.put(a_job())
        end = await chats.end_of("job")

    assert (end["status"], end["text"]) == ("completed", text)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        pytest.param(tokens("a") + ENDED_WELL[:-1], "stream_cut", id="no blank line at the end"),
        pytest.param(tokens("a") + b"data: {\n\n" + SAID, "stream_cut", id="bad JSON"),
        pytest.param(tokens("a") + b"data: 5\n\n" + SAID, "stream_cut", id="no event"),
        pytest.param(tokens("a") + END.data, "no_answer", id="end alone"),
        pytest.param(tokens("a") + frame("metadata", {}), "stream_cut", id="no end"),
        pytest.param(tokens("a") + frame("error", "x") + SAID, "endpoint_error", id="error"),
        pytest.param(
            tokens("a") + frame("metadata", {"question": "other", "chatMessageId": 7}) + END.data,
            "stream_mixed",
            id="ending of another run",
        ),
    ],
)
async def test_stream_that_tells_no_success_fails(stage: Stage, said: bytes, kind: str) -> None:
    stage.endpoint.flow("flow", Script.of(Head(), Send(said), Finish()))
    async with stage.working(max_calls=1) as chats:
        await stage.put(a_job())
        end = await chats.end_of("job")

    assert (end["status"], end["text"]) == ("failed", "a")
    assert chats.data("job", "error")[0]["kind"] == kind
