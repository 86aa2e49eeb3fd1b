"""Reduce events to the records that the journal gets of them: no text from outside, no answer.

A record has the members of its event. Its data is the part that the history of a job is built
from (`journal/history.py` of the schemas):

| event | data of the record |
|---|---|
| `start` | `null` |
| `retry` | `kind`, `nextAttempt` |
| `error` | `kind` |
| `end` | `status` |
| the first of an attempt that shows a tool or action | `true` |
"""

from typing import Final

import msgspec

from aimicromind_schemas import SIDE_EFFECT_EVENTS, EndStatus
from aimicromind_schemas.journal.history import TOOL_RAN
from aimicromind_worker.core.endpoint.frames import EndpointEvent

MILESTONES: Final = SIDE_EFFECT_EVENTS | {"start", "retry", "error", "agent_trace"}
"""Names of the events that may have a record. The record of an `end` is written on its own."""

_START: Final = EndpointEvent("start", b"null")


class _Retry(msgspec.Struct, rename="camel"):
    kind: str
    next_attempt: int


class _Error(msgspec.Struct):
    kind: str


_retries = msgspec.json.Decoder(_Retry)
_errors = msgspec.json.Decoder(_Error)


class Recorder:
    """Reduces the events of one attempt, in publishing order."""

    def __init__(self) -> None:
        self._tool_recorded = False
        self._begin_recorded = False

    def record_of_begin(self) -> EndpointEvent | None:
        """Return the record of an attempt that has shown nothing yet; None after the first call."""
        was_recorded, self._begin_recorded = self._begin_recorded, True
        return None if was_recorded else _START

    def record_of(self, event: EndpointEvent, *, acted: bool) -> EndpointEvent | None:
        """Return the record of an event; None if it has none.

        Args:
            event: An event whose name is in `MILESTONES`.
            acted: Whether the attempt has shown a tool or action, this event included.
        """
        match event.name:
            case "start":
                return _START
            case "retry":
                return EndpointEvent("retry", msgspec.json.encode(_retries.decode(event.data)))
            case "error":
                return EndpointEvent("error", msgspec.json.encode(_errors.decode(event.data)))
            case name if acted and not self._tool_recorded:
                self._tool_recorded = True
                return EndpointEvent(name, TOOL_RAN)
            case _:
                return None


def record_of_end(status: EndStatus) -> EndpointEvent:
    """Return the record of an `end`, which is written before the `end` is published."""
    return EndpointEvent("end", b'{"status":"%b"}' % status.encode())
