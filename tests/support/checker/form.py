"""What every single message must be like, from its routing key to the order of its members."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from tests.support.checker.facts import Asked
from tests.support.consumer import Message

_ENVELOPE: Final = ["jobId", "chatId", "chatflowId", "attempt", "seq", "time", "event", "data"]
_END: Final = [
    *("status", "attempts", "calls", "events"),
    *("durationSeconds", "text", "recovered", "tags"),
]
_END_MAY_HAVE: Final = ["answer", "usage", "waitsFor", "handle"]
_STATUSES: Final = {"completed", "failed", "cancelled", "expired", "rejected"}
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_LAST_MEMBER: Final = {"thinking": "duration"}


def faults_of_form(asked: Asked, message: Message, exchange: str) -> Iterator[str]:
    """Name what is wrong with a message of a job."""
    event = message.event
    last = "truncated" if "truncated" in event else _LAST_MEMBER.get(message.name, "truncated")
    expected = [*_ENVELOPE, *([last] if len(event) > len(_ENVELOPE) else [])]
    if list(event) != expected:
        yield f"its members are {list(event)}"
        return
    if "truncated" in event and event["data"] is not None:
        yield "its data is there although it is said to be left out"
    named = (event["jobId"], event["chatId"], event["chatflowId"])
    if named != (asked.job_id, asked.chat_id, asked.flow):
        yield f"it speaks of {named}"
    if not _TIME.fullmatch(event["time"]):
        yield f"its time is {event['time']}"
        return
    key = f"chat.{_word(asked.chat_id)}.{_word(message.name)}"
    if (message.exchange, message.routing_key) != (exchange, key):
        yield f"it came by {message.exchange!r} with the key {message.routing_key!r}"
    properties = _properties(asked, message)
    for name in sorted(properties.keys() | message.properties.keys()):
        given, expected_value = message.properties.get(name), properties.get(name)
        if given != expected_value:
            yield f"its {name} is {given!r} and not {expected_value!r}"
    if not _are_integers(message.properties.get("headers", {})):
        yield "attempt and seq are no integers in its headers"
    if message.name == "end":
        yield from _faults_of_end(asked, message.data)


def _properties(asked: Asked, message: Message) -> Mapping[str, Any]:
    event = message.event
    number = "end" if message.name == "end" else f"{event['attempt']}:{event['seq']}"
    traced = {} if asked.traceparent is None else {"traceparent": asked.traceparent}
    return {
        "message_id": f"{asked.job_id}:{number}",
        "type": message.name,
        "correlation_id": asked.correlation_id or asked.job_id,
        "timestamp": int(datetime.fromisoformat(event["time"]).timestamp()),
        "content_type": "application/json",
        "app_id": "aimicromind-worker",
        "delivery_mode": 2,
        "headers": {
            "attempt": event["attempt"],
            "seq": event["seq"],
            "chatflowId": asked.flow,
            "x-stream-filter-value": asked.chat_id,
            **traced,
        },
    }


def _are_integers(headers: Mapping[str, Any]) -> bool:
    # In Python, 1 is also True and 1.0.
    numbers = [headers.get(name) for name in ("attempt", "seq")]
    return all(isinstance(it, int) and not isinstance(it, bool) for it in numbers)


def _faults_of_end(asked: Asked, data: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    beyond = list(data)[len(_END) :]
    if list(data)[: len(_END)] != _END or beyond != [it for it in _END_MAY_HAVE if it in beyond]:
        yield f"its data holds {list(data)}"
        return
    if data["status"] not in _STATUSES:
        yield f"its status is {data['status']!r}"
    if data["durationSeconds"] < 0:
        yield f"it took {data['durationSeconds']} s"
    if data["tags"] != asked.tags:
        yield "its tags are not the job's"


def _word(text: str) -> str:
    return quote(text, safe="").replace(".", "%2E").replace("~", "%7E")
