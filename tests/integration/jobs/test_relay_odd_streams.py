"""What a consumer sees of streams that are slow, malformed, or readable only just."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, count, cycle, repeat
from typing import Final, NamedTuple

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


class Told(NamedTuple):
    """How a job ended.

    Attributes:
        kind: Of its error, if it had one.
    """

    status: str
    text: str
    kind: str = ""


async def told(stage: Stage, scripts: Mapping[str, Script], **settings: float) -> dict[str, Told]:
    """Have a job come of each script, all on one worker, and return how each ended."""
    found = {}
    async with stage.working(concurrency=len(scripts), max_calls=1, **settings) as chats:
        for number, script in enumerate(scripts.values()):
            stage.endpoint.flow(f"flow-{number}", script)
            await stage.put(
                a_job(jobId=f"job-{number}", chatId=f"{number}", chatflowId=f"flow-{number}")
            )
        for number, name in enumerate(scripts):
            end = await chats.end_of(f"job-{number}")
            kinds = [error["kind"] for error in chats.data(f"job-{number}", "error")]
            found[name] = Told(end["status"], end["text"], *kinds)
        await stage.endpoint.until(lambda: not stage.endpoint.live_calls)
    return found


SILENT: Final = {
    "no bytes": Script.of(*OPEN, Stall()),
    "heartbeats only": dripping(repeat(HEARTBEAT)),
    "a frame byte by byte": dripping(repeat(b"x")),
    "a frame line by line": dripping(repeat(b"data: x\n")),
    "blank lines": dripping(repeat(b"\n")),
    "frames without data": dripping(repeat(b"event: token\n\n")),
    "frames of empty data": dripping(repeat(b"data:\n\n")),
    "pings": dripping(repeat(b"event: ping\ndata:\n\n")),
    "empty objects": dripping(repeat(b"data: {}\n\n")),
}


async def test_stream_that_says_nothing_more_is_broken_off(stage: Stage) -> None:
    ended = await told(stage, SILENT, idle_timeout_seconds=1)

    assert ended == dict.fromkeys(SILENT, Told("failed", "half", "stream_stalled"))


async def test_answer_that_never_ends_is_held_to_the_time_of_an_attempt(stage: Stage) -> None:
    endless = {
        "tokens": dripping(frame("token", f"{number} ") for number in count()),
        "json byte by byte": Script(lambda _: chain([JSON_HEAD], cycle((Send(b" "), DRIP)))),
    }

    ended = await told(stage, endless, attempt_timeout_seconds=2)

    assert [(it.status, it.kind) for it in ended.values()] == [("failed", "timeout")] * 2
    assert ended["tokens"].text.startswith("half0 1 ")


SAID: Final = tokens("a", "ü", "😀") + ENDED_WELL
EMOJI_AT: Final = SAID.index("😀".encode())


READABLE: Final[dict[str, tuple[list[bytes], str]]] = {
    "CR": ([SAID.replace(b"\n", b"\r")], "aü😀"),
    "CRLF": ([SAID.replace(b"\n", b"\r\n")], "aü😀"),
    "mixed": ([SAID.replace(b"\n\n", b"\r\n\n")], "aü😀"),
    "byte order mark": ([b"\xef\xbb\xbf" + SAID], "aü😀"),
    "no message line": ([SAID.replace(b"message:\n", b"")], "aü😀"),
    "older server": ([SAID.replace(b"message:\n", b"message\n")], "aü😀"),
    "fields": ([SAID.replace(b"message:\n", b":x\nid: 7\nretry: 5\n")], "aü😀"),
    "lines of data": ([SAID.replace(b',"data"', b',\ndata:"data"')], "aü😀"),
    "comments": ([HEARTBEAT, SAID, HEARTBEAT], "aü😀"),
    "emoji in pieces": ([SAID[: EMOJI_AT + 1], SAID[EMOJI_AT + 1 :]], "aü😀"),
    "single bytes": ([bytes((byte,)) for byte in SAID], "aü😀"),
    "no UTF-8": ([SAID.replace("ü".encode(), b"\xff")], "a\ufffd😀"),
    "half a character": ([SAID.replace("ü".encode(), rb"\ud83d")], "a\ufffd😀"),
    "NUL": ([SAID.replace("ü".encode(), b"\x00")], "a\x00😀"),
    **{
        repr(it): ([SAID.replace(b"message:", it + b"message:")], "aü😀")
        for it in (
            *(b"data:\n\n", b"data: \n\n", b"data:   \n\n", b"data\n\n", b"data:\r\n\r\n"),
            *(b"data:\ndata:\n\n", b"event: ping\ndata:\n\n", b"event: ping\n\n", b":x\n\n"),
            *(b"retry: 1000\n\n", b"id: 7\n\n", b"data: {}\n\n", b"data: null\n\n"),
            *(b"data: [DONE]\n\n", b"data: ping\n\n", b"event: message\ndata:\n\n"),
        )
    },
    "content parts": (
        [frame("token", [{"type": "text", "text": "a"}]), frame("token", []), SAID],
        "aaü😀",
    ),
    "unknown event": ([frame("strange", [None]), SAID], "aü😀"),
    "nonsense after the end": ([SAID, b"data: no json\n\n"], "aü😀"),
    "plain form": (
        [
            b"event: token\ndata: Once upon\ndata: a time\n\n",
            b'event: metadata\ndata: {"chatId":"c"}\n\nevent: end\ndata: [DONE]\n\n',
        ],
        "Once upon\na time",
    ),
}


async def test_readable_stream_completes(stage: Stage) -> None:
    scripts = {name: Script.of(Head(), *map(Send, sends)) for name, (sends, _) in READABLE.items()}

    ended = await told(stage, scripts)

    assert ended == {name: Told("completed", text) for name, (_, text) in READABLE.items()}


FAILING: Final = {
    "no blank line at the end": (tokens("a") + ENDED_WELL[:-1], "stream_cut"),
    "bad JSON": (tokens("a") + b"data: {\n\n" + SAID, "stream_cut"),
    "no event": (tokens("a") + b"data: 5\n\n" + SAID, "stream_cut"),
    "end alone": (tokens("a") + END.data, "no_answer"),
    "no end": (tokens("a") + frame("metadata", {}), "stream_cut"),
    "error": (tokens("a") + frame("error", "x") + SAID, "endpoint_error"),
    "ending of another run": (
        tokens("a") + frame("metadata", {"question": "other", "chatMessageId": 7}) + END.data,
        "stream_mixed",
    ),
}


async def test_stream_that_tells_no_success_fails(stage: Stage) -> None:
    scripts = {name: Script.of(Head(), Send(said), Finish()) for name, (said, _) in FAILING.items()}

    ended = await told(stage, scripts)

    assert ended == {name: Told("failed", "a", kind) for name, (_, kind) in FAILING.items()}
