"""Record an example of each message from a real worker: `make contract-examples`.

Most come from recordings of a real server. Data that no recording has is written by hand here, and
sent by the scripted endpoint. Thus the rest of the message is the worker's own.
"""

import asyncio
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from aimicromind_schemas import Names
from aimicromind_schemas.messages.catch_up import Snapshot
from aimicromind_testing import PrivateBroker, answer, play, recording_names, send
from tests.process.jobs import Job
from tests.process.recorded import NOT_STREAMED, recorded_request
from tests.process.stage import Stage, set_up
from tests.support.consumer import Message
from tools.contract.places import EXAMPLES, as_text
from tools.contract.schema_files import schema_name

_CHOICE: Final = {
    "end": "d-agentflow-agent",
    "metadata": "b-toolagent",
    "retry": "server-sigkill",
    "start": "b-toolagent",
    "token": "b-toolagent",
}
"""The recording to take an example from, where several have such an event."""

BY_HAND: Final[Mapping[str, object]] = {
    "thinking": "The user wants a definition, ",
    "agent_trace": {"step": "tool_start", "name": "calculator", "input": "6*7"},
    "nextAgent": "Writer",
    "tool": {"tool": "calculator", "input": "6*7"},
    "artifacts": [{"type": "png", "data": "FILE-STORAGE::chart.png"}],
    "fileAnnotations": [{"filePath": "report.pdf", "fileName": "report.pdf"}],
    "abort": "[DONE]",
    "tts_start": {"chatMessageId": "0b7d2a5e-7c8f-4f0a-9a51-2f6f0c7f3a11", "format": "mp3"},
    "tts_data": {
        "chatMessageId": "0b7d2a5e-7c8f-4f0a-9a51-2f6f0c7f3a11",
        "audioChunk": "SUQzBAAAAAA=",
    },
    "tts_end": {"chatMessageId": "0b7d2a5e-7c8f-4f0a-9a51-2f6f0c7f3a11"},
    "retry": {"why": "the flow's own event of this name comes as `other`"},
    "weather": {"city": "Oslo", "celsius": -3},
}
"""Data of events that no recording has, by the endpoint's name of the event."""

PRODUCED: Final[Mapping[str, Mapping[str, Any]]] = {
    "job": {
        "chatflowId": "support",
        "question": "What is a queue?",
        "chatId": "chat-1",
        "jobId": "job-1",
        "after": "job-0",
        "overrideConfig": {"sessionId": "session-1"},
        "timeoutSeconds": 120,
        "maxCalls": 2,
        "idempotent": False,
        "tags": {"tenant": "acme"},
    },
    "cancel.chat": {"cancel": {"chatId": "chat-1"}, "submittedAt": "2026-11-22T13:20:00.123456Z"},
    "cancel.job": {"cancel": {"jobId": "job-1"}},
    "catchUp": {
        "catchUp": {"chatId": "chat-1", "jobId": "job-1", "after": {"attempt": 1, "seq": 17}}
    },
    "status": {"status": {"jobId": "job-1"}},
    "workerReport": {
        "worker": "0b7d2a5e-7c8f-4f0a-9a51-2f6f0c7f3a11",
        "host": "worker-1",
        "pid": 7,
        "version": "1.0.0",
        "upSeconds": 3600.5,
        "ready": True,
        "obstacles": [],
        "slots": 32,
        "running": 3,
        "waiting": 1,
        "waitingForChat": 1,
        "consumers": 1,
        "ended": 1200,
        "events": 345_678,
        "oldestSeconds": 12.25,
        "job": "waiting",
    },
}
"""Messages of producers, and a report of a worker, by the names of their files."""


async def record() -> dict[str, Mapping[str, Any]]:
    """Return an example of each message by the name of its file, without `.json`."""
    names = Names(f"examples-{uuid4().hex[:12]}")
    with tempfile.TemporaryDirectory() as folder:
        async with PrivateBroker() as broker, set_up(broker, names, Path(folder)) as stage:
            came = await _carried(stage)
    return {**PRODUCED, "snapshot": _snapshot(came[_CHOICE["start"]]), **_one_of_each(came)}


def _snapshot(job: list[Message]) -> Mapping[str, Any]:
    """Return the answer to a follower that comes after the first two events of a job."""
    events = tuple(message.body for message in job[:2])
    first = job[0].event
    snapshot = Snapshot(first["jobId"], first["chatId"], first["attempt"], events, 1, 1)
    read: Mapping[str, Any] = json.loads(snapshot.encode())
    return read


async def _carried(stage: Stage) -> dict[str, list[Message]]:
    """Run a job for each recording, and return its events by the name of the recording."""
    await stage.ready_worker(IDLE_TIMEOUT_SECONDS=1, MAX_CALLS=2)
    for name in recording_names():
        stage.endpoint.flow(name, play(name, pace=0), streaming=name not in NOT_STREAMED)
    by_hand = [send(name, data) for name, data in BY_HAND.items()]
    stage.endpoint.flow("by-hand", answer(1, before=by_hand))
    jobs = {name: _job(name, recorded_request(name)) for name in recording_names()}
    jobs["by-hand"] = _job("by-hand", {"question": "What is a queue?"})
    with stage.listen() as consumer:
        stage.submit(*jobs.values())
        await consumer.ended(*(job.job_id for job in jobs.values()), within_s=60)
        return {name: consumer.job(job.job_id) for name, job in jobs.items()}


def _job(name: str, asked: Mapping[str, Any]) -> Job:
    ids = {"chatflowId": name, "chatId": f"chat-{name}", "jobId": f"job-{name}"}
    return Job({**asked, **ids, "tags": {"tenant": "acme"}})


def _one_of_each(came: Mapping[str, list[Message]]) -> dict[str, Mapping[str, Any]]:
    """Return one example of each event: from the chosen recording if any, and the shortest."""
    chosen: dict[str, Message] = {}
    for recording, messages in came.items():
        for message in _with_content(messages):
            choice = _CHOICE.get(message.name)
            if choice not in {None, recording}:
                continue
            name = schema_name(message.name)
            if name not in chosen or len(message.body) < len(chosen[name].body):
                chosen[name] = message
    return {name: message.event for name, message in sorted(chosen.items())}


def _with_content(messages: Iterable[Message]) -> Iterable[Message]:
    """Leave out events with an empty text or an empty list."""
    return [message for message in messages if message.data not in ("", [])]


def main() -> None:
    """Replace the examples."""
    recorded = asyncio.run(record())
    EXAMPLES.mkdir(parents=True, exist_ok=True)
    for path in EXAMPLES.glob("*.json"):
        path.unlink()
    for name, example in recorded.items():
        (EXAMPLES / f"{name}.json").write_text(as_text(example))


if __name__ == "__main__":
    main()
