"""The known answers of the prediction endpoint, as scripts to be combined."""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping

from aimicromind_schemas.wire import json_of
from aimicromind_testing.endpoint.call import Call
from aimicromind_testing.endpoint.recording import Recording
from aimicromind_testing.endpoint.script import (
    Crash,
    Ending,
    Finish,
    Head,
    Script,
    Send,
    Stall,
    Step,
    Unheard,
    Wait,
    frame,
    send,
)

END = send("end", "[DONE]")


def play(recording: Recording | str, pace: float = 1.0) -> Script:
    """Answer as recorded, with the same bytes, headers and ending.

    Args:
        recording: A recording or its name.
        pace: Factor for the recorded waits; 0 for as fast as the client reads.

    Raises:
        FileNotFoundError: There is no recording of this name.
    """
    if isinstance(recording, str):
        recording = Recording.load(recording)
    return Script.of(*_recorded_steps(recording, pace))


def answer(
    tokens: int = 12,
    *,
    rate: float = 0,
    token: Callable[[int], str] = "tok{} ".format,
    before: Iterable[Step] = (),
    after: Iterable[Step] = (),
) -> Script:
    """Answer with a whole stream: `start`, tokens, `metadata` of the call, `end`.

    Args:
        tokens: Number of tokens.
        rate: Tokens per second; 0 for as fast as the client reads.
        token: Returns the text of a token by its number, from 0; called when the token is due.
        before: Steps between `start` and the first token, such as waits and heartbeats.
        after: Steps between the last token and `metadata`, such as `usedTools`.
    """
    pause = [Wait(1 / rate)] if rate else []
    before, after = tuple(before), tuple(after)

    def steps(call: Call) -> Iterator[Step]:
        yield Head()
        yield send("start", "")
        yield from before
        for number in range(tokens):
            yield from pause
            yield send("token", token(number))
        yield from after
        yield send("metadata", _metadata(call))
        yield END

    return Script(steps)


def silent_answer(text: str, *, before: Iterable[Step] = ()) -> Script:
    """Answer with `metadata` and `end` only, while the server saves the text.

    Args:
        text: The saved answer.
        before: Steps before `metadata`, such as `Unheard(frame("usedTools", [...]))`.
    """
    before = (*before, Unheard(frame("token", text)))

    def steps(call: Call) -> Iterator[Step]:
        yield from (Head(), *before, send("metadata", _metadata(call)), END)

    return Script(steps)


def whole_answer(text: str, extra: Mapping[str, object] | None = None) -> Script:
    """Answer with one JSON object, as a flow that cannot stream does even if asked to stream.

    Args:
        text: The answer.
        extra: Further fields, such as `usedTools`.
    """

    def steps(call: Call) -> Iterator[Step]:
        fields = {"text": text, **_metadata(call), "isStreamValid": False, **(extra or {})}
        yield from json_answer(200, fields).steps(call)

    return Script(steps)


def error_answer(text: str, tokens: int = 0) -> Script:
    """Answer 200 with tokens, then an `error` frame, then `end`: a run that failed.

    Args:
        text: The error's text.
        tokens: Number of tokens before it.
    """
    start = [send("start", "")] if tokens else []
    said = [send("token", f"tok{number} ") for number in range(tokens)]
    return Script.of(Head(), *start, *said, send("error", text), END)


def status_answer(
    status: int,
    body: bytes = b"",
    *,
    content_type: str = "text/html; charset=utf-8",
    headers: Iterable[tuple[str, str]] = (),
) -> Script:
    """Answer with a status and a body; `headers` are added to `Content-*` and `Connection`."""
    framing = (("Content-Type", content_type), ("Content-Length", str(len(body))))
    return Script.of(Head(status, (*framing, *headers, ("Connection", "keep-alive"))), Send(body))


def json_answer(status: int, value: object) -> Script:
    """Answer with a status and a value as JSON."""
    return status_answer(status, json_of(value), content_type="application/json; charset=utf-8")


def json_error(status: int, message: str) -> Script:
    """Answer with an error in the JSON form that the real server uses outside of streams."""
    return json_answer(
        status, {"statusCode": status, "success": False, "message": message, "stack": {}}
    )


def html_page(status: int = 200) -> Script:
    """Answer with a page of the server's user interface, as the real server does at wrong paths."""
    return status_answer(status, b"<!doctype html><html><body>AiMicromind</body></html>")


def too_many_requests(retry_after: str | None = "1") -> Script:
    """Answer 429.

    Args:
        retry_after: Value of `Retry-After`, in seconds or a date; None for no such header.
    """
    headers = [] if retry_after is None else [("Retry-After", retry_after)]
    return status_answer(429, b"Too many requests", headers=headers)


def never_answers() -> Script:
    """Read the request and send nothing, not even headers."""
    return Script.of(Stall())


def _metadata(call: Call) -> dict[str, object]:
    return {
        "chatId": call.chat_id,
        "chatMessageId": str(uuid.uuid4()),
        "question": call.question,
        "sessionId": call.session_id,
    }


def _recorded_steps(recording: Recording, pace: float) -> Iterator[Step]:
    yield Head(recording.status, recording.headers)
    at, seconds = 0, 0.0
    for arrival in recording.arrivals:
        yield Wait((arrival.seconds - seconds) * pace)
        yield Send(recording.body[at : at + arrival.size_bytes])
        at, seconds = at + arrival.size_bytes, arrival.seconds
    endings: dict[str, Ending] = {"complete": Finish(), "truncated": Crash(), "hangs": Stall()}
    yield endings[recording.ending]
