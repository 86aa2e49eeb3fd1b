"""Messages in their form on the wire, for tests to vary."""

import json
from typing import Any, Final

from aimicromind_schemas import Event, event_from

SECRET: Final = "s3cr3t-marker"
END: Final = {
    "status": "completed",
    "attempts": 1,
    "calls": 1,
    "events": 5,
    "durationSeconds": 1.5,
    "text": "Once",
    "recovered": False,
    "tags": {},
}


def fields(name: str, data: object, **changed: object) -> dict[str, Any]:
    return {
        "jobId": "j",
        "chatId": "c",
        "chatflowId": "f",
        "attempt": 1,
        "seq": 3,
        "time": "2026-11-22T13:20:00.123456Z",
        "event": name,
        "data": data,
    } | changed


def an_event(name: str, data: object) -> Event:
    return event_from(fields(name, data))


def body(**fields: Any) -> bytes:  # noqa: ANN401 - a job on the wire holds anything
    return json.dumps({"chatflowId": "flow", "question": "Why?"} | fields).encode()
