"""What was recorded, as a job to ask it again and as the events that must come of it."""

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from aimicromind_testing import Recording
from tests.process.jobs import Job


@dataclass(frozen=True, slots=True)
class Failure:
    """How a recorded answer that is no success must be told."""

    kind: str
    http_status: int | None = None
    calls: int = 1


FAILURES: Final = {
    "abort-d-agentflow-llm": Failure("endpoint_error"),
    "err-badjson": Failure("bad_request", 400),
    "err-key-missing-json": Failure("unauthorized", 500),
    "err-key-missing-stream": Failure("unauthorized"),
    "err-unknown-id-json": Failure("chatflow_not_found", 404),
    "flowise2-err-key-missing-stream": Failure("unauthorized"),
    "flowise2-err-unknown-id-json": Failure("chatflow_not_found", 500),
    "model-401": Failure("unauthorized"),
    "model-429": Failure("rate_limited", calls=2),
    "model-midstream-err": Failure("endpoint_error"),
    "plural-stream": Failure("unauthorized", 401),
    "rl-3-exceeded": Failure("rate_limited", 429, calls=2),
    "same-chat-a-conversation-first": Failure("stream_stalled"),
    "same-chat-a-conversation-second": Failure("stream_mixed"),
    "same-chat-after-cut": Failure("stream_mixed"),
    "server-sigkill": Failure("stream_cut"),
}

NOT_STREAMED: Final = {"e-nostream", "flowise2-nostream"}

BROKEN_OFF: Final = {
    name
    for name, failure in FAILURES.items()
    if failure.kind in {"stream_stalled", "stream_mixed", "stream_cut"}
}


def recorded_job(name: str, number: int, reply_to: str) -> Job:
    """Ask what was asked when the answer was recorded, in a chat whose name needs escaping."""
    asked = recorded_request(name)
    fields = {
        **asked,
        "chatflowId": name,
        "chatId": f"{name}.*#% ü~/1",
        "jobId": f"job-{name}",
        "tags": {"recording": name},
        # These would be run again; the others may be, so that what is not called again shows.
        **({"maxCalls": 1} if name in BROKEN_OFF else {}),
    }
    properties: dict[str, Any] = {"message_id": f"message-{number}", "reply_to": reply_to}
    if number % 2:
        trace = f"00-{number:032x}-{number:016x}-01"
        properties |= {"headers": {"traceparent": trace}, "correlation_id": f"order-{number}"}
    return Job(fields, properties)


def recorded_request(name: str) -> dict[str, Any]:
    folder = files("aimicromind_testing") / "recordings"
    body = (folder / f"{name}.request").read_bytes().partition(b"\r\n\r\n")[2]
    # One request lacks its last brace: that it was refused is what was recorded.
    request: dict[str, Any] = json.loads(body + b"}" if name == "err-badjson" else body)
    return request


def said(recording: Recording) -> list[tuple[str, object]]:
    """Give what the endpoint said, as a consumer must get it, up to its success or failure."""
    if recording.name in NOT_STREAMED:
        answer = json.loads(recording.body)
        kept = ("chatId", "chatMessageId", "question", "sessionId")
        metadata = {member: answer[member] for member in kept}
        return [("start", None), ("token", answer["text"]), ("metadata", metadata)]
    frames = recording.frames()
    if not frames or frames[0]["event"] == "error":
        return []
    first = frames[0]
    events: list[tuple[str, object]] = [
        ("start", first["data"] if first["event"] == "start" else None)
    ]
    failure = FAILURES.get(recording.name)
    for frame in frames:
        if frame["event"] in {"error", "end"}:
            break
        if frame["event"] == "metadata" and failure is not None:
            break  # It is another run's, which is the failure.
        if frame["event"] != "start":
            events.append((frame["event"], frame["data"]))
    return events
