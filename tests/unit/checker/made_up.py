"""Runs made up of plain values: a good one, to be spoiled in one place."""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from tests.support.checker import Asked, EndpointCall, Listener, Run
from tests.support.consumer import Message

EXCHANGE = "events"


@dataclass(slots=True)
class Tale:
    """A job and what one consumer was told of it, a message each 10 ms."""

    job_id: str = "job-1"
    chat_id: str = "chat-1"
    messages: list[Message] = field(default_factory=list)
    calls: list[EndpointCall] = field(default_factory=list)
    _clock: float = 100.0

    def says(self, attempt: int, seq: int, name: str, data: object) -> Message:
        """Write the next message."""
        self._clock += 0.01
        message = a_message(self, attempt, seq, name, data, self._clock)
        self.messages.append(message)
        return message

    def attempt(self, number: int, tokens: int, of: int | None = None) -> None:
        """Tell of a call that said so many tokens of its answer, all of them if not said."""
        says = [f"{self.job_id}/{number}/{place} " for place in range(tokens if of is None else of)]
        began = self._clock
        self.says(number, 0, "start", {"tags": {}, "redelivered": False, "upstream": ""})
        for place, token in enumerate(says[:tokens]):
            self.says(number, place + 1, "token", token)
        chat_id = f"{self.job_id}-call-{len(self.calls) + 1}"
        ended = self._clock
        self.calls.append(EndpointCall(self.job_id, chat_id, self.chat_id, began, ended, says))

    def end(self, status: str = "completed", **changed: object) -> Message:
        """Tell of the end, truthfully but for what is changed."""
        attempt = self.messages[-1].attempt if self.messages else 0
        seq = sum(message.attempt == attempt for message in self.messages)
        data = {
            "status": status,
            "attempts": attempt,
            "calls": len(self.calls),
            "events": seq + 1,
            "durationSeconds": 0.5,
            "text": "".join(
                message.data
                for message in self.messages
                if (message.attempt, message.name) == (attempt, "token")
            ),
            "recovered": False,
            "tags": {},
        }
        return self.says(attempt, seq, "end", data | changed)

    @property
    def asked(self) -> Asked:
        return Asked(self.job_id, self.chat_id, confirmed_at=99.0)


def a_message(tale: Tale, attempt: int, seq: int, name: str, data: object, at: float) -> Message:
    event = {
        "jobId": tale.job_id,
        "chatId": tale.chat_id,
        "chatflowId": "flow",
        "attempt": attempt,
        "seq": seq,
        "time": "2026-11-22T13:20:00.123456Z",
        "event": name,
        "data": data,
    }
    number = "end" if name == "end" else f"{attempt}:{seq}"
    return Message(
        exchange=EXCHANGE,
        routing_key=f"chat.{tale.chat_id}.{name}",
        properties={
            "message_id": f"{tale.job_id}:{number}",
            "type": name,
            "correlation_id": tale.job_id,
            "timestamp": int(datetime(2026, 11, 22, 13, 20, tzinfo=UTC).timestamp()),
            "content_type": "application/json",
            "app_id": "aimicromind-worker",
            "delivery_mode": 2,
            "headers": {
                "attempt": attempt,
                "seq": seq,
                "chatflowId": "flow",
                "x-stream-filter-value": tale.chat_id,
            },
        },
        body=json.dumps(event).encode(),
        event=event,
        at=at,
    )


def again(message: Message, **changed: Any) -> Message:  # noqa: ANN401 - members of an event
    """Write a message once more, with other data or another place."""
    event = {**message.event, **changed}
    return replace(message, body=json.dumps(event).encode(), event=event)


def good_tale(*tokens: int) -> Tale:
    """Tell of a job whose last attempt says that many tokens; the ones before were cut."""
    tale = Tale()
    *cut, whole = tokens or (3,)
    for number, shown in enumerate(cut, start=1):
        tale.attempt(number, shown, of=shown + 2)
        tale.says(number, shown + 1, "retry", {"kind": "stream_cut", "nextAttempt": number + 1})
    tale.attempt(len(cut) + 1, whole)
    tale.end()
    return tale


def run_of(*tales: Tale, **facts: Any) -> Run:  # noqa: ANN401 - named in Run
    """Have one consumer hear the tales, one after the other."""
    asked = {tale.job_id: tale.asked for tale in tales}
    listener = Listener("consumer", EXCHANGE, asked)
    for tale in tales:
        for message in tale.messages:
            listener.take(message)
    calls = [call for tale in tales for call in tale.calls]
    return Run(asked=asked, listeners=[listener], **({"calls": calls} | facts))


def rules(run: Run) -> set[str]:
    """Name the invariants that a run breaks."""
    return {violation.rule for violation in run.violations()}
