"""Judge what a consumer got of a job, by the rules that every consumer may rely on."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any
from urllib.parse import quote

from tests.process.jobs import Job
from tests.support.consumer import Message

_ENVELOPE = ["jobId", "chatId", "chatflowId", "attempt", "seq", "time", "event", "data"]
_END = [
    "status",
    "attempts",
    "calls",
    "events",
    "durationSeconds",
    "text",
    "recovered",
    "tags",
]
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a job showed.

    Attributes:
        attempts: The events of each attempt, by its number, in order.
        end: The data of its `end`.
    """

    attempts: dict[int, list[Message]]
    end: dict[str, Any]

    def shown(self, attempt: int) -> list[str]:
        """Give the names of an attempt's events, of tokens in a row only the first."""
        names = [message.name for message in self.attempts[attempt]]
        return [name for name, again in groupby(names) for _ in ([0] if name == "token" else again)]

    def only(self, name: str) -> Any:  # noqa: ANN401 - an event holds anything
        """Give the data of the one event of this name."""
        (data,) = [
            message.data
            for messages in self.attempts.values()
            for message in messages
            if message.name == name
        ]
        return data


def text_of(messages: Sequence[Message]) -> str:
    return "".join(message.data for message in messages if message.name == "token")


def judge(job: Job, came: Sequence[Message], exchange: str) -> Seen:
    """Check all that came of a job which has ended, and give it without repeats."""
    messages = _without_repeats(came)
    attempts: dict[int, list[Message]] = {}
    for message in messages:
        check_message(job, message, exchange)
        assert message.attempt >= max(attempts, default=0), "an older attempt spoke again"
        attempts.setdefault(message.attempt, []).append(message)
    for shown in attempts.values():
        _check_attempt(shown)
    assert [message.name for message in messages].count("end") == 1
    assert messages[-1].name == "end", "something followed the end"
    end = dict(messages[-1].data)
    assert list(end) == _END
    assert end["events"] == len(attempts[max(attempts)])
    assert end["durationSeconds"] >= 0
    assert end["tags"] == job.fields.get("tags", {})
    if end["status"] == "completed":
        assert end["attempts"] == max(attempts)
        assert end["text"] == text_of(attempts[max(attempts)])
    return Seen(attempts, end)


def check_message(job: Job, message: Message, exchange: str) -> None:
    """Check one message, from its routing key to the order of its members."""
    event = message.event
    assert list(event) == _ENVELOPE
    assert (event["jobId"], event["chatId"]) == (job.job_id, job.chat_id)
    assert event["chatflowId"] == job.flow
    assert _TIME.fullmatch(event["time"])
    second = int(datetime.fromisoformat(event["time"]).timestamp())
    assert message.exchange == exchange
    assert message.routing_key == f"chat.{_word(job.chat_id)}.{_word(message.name)}"
    headers = {
        "attempt": event["attempt"],
        "seq": event["seq"],
        "chatflowId": job.flow,
        "x-stream-filter-value": job.chat_id,
    }
    asked = job.properties.get("headers", {})
    if "traceparent" in asked:
        headers["traceparent"] = asked["traceparent"]
    number = "end" if message.name == "end" else f"{event['attempt']}:{event['seq']}"
    assert message.properties == {
        "message_id": f"{job.job_id}:{number}",
        "type": message.name,
        "correlation_id": job.properties.get("correlation_id", job.job_id),
        "timestamp": second,
        "content_type": "application/json",
        "app_id": "aimicromind-worker",
        "delivery_mode": 2,
        "headers": headers,
    }
    for name in ("attempt", "seq"):  # In Python, 1 is also True and 1.0.
        value = message.properties["headers"][name]
        assert isinstance(value, int)
        assert not isinstance(value, bool)


def _check_attempt(shown: Sequence[Message]) -> None:
    assert [message.event["seq"] for message in shown] == list(range(len(shown)))
    names = [message.name for message in shown]
    assert names.count("start") == ("start" in names[:1])
    if "start" not in names:
        assert set(names) <= {"retry", "error", "end"}


def _without_repeats(came: Sequence[Message]) -> list[Message]:
    """Drop what came again; a repeat may differ in its times, an `end` also in its counts."""
    first: dict[str, Message] = {}
    for message in came:
        known = first.setdefault(message.properties["message_id"], message)
        assert message.name == known.name
        assert message.body == known.body or message.name == "end", "a repeat says something else"
    return list(first.values())


def _word(text: str) -> str:
    return quote(text, safe="").replace(".", "%2E").replace("~", "%7E")


def as_json(value: object) -> str:
    """Write JSON with its members in the order in which they came, to compare that, too."""
    return json.dumps(value)
