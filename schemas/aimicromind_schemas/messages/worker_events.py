"""Events whose data the worker writes; unknown fields of a newer worker are skipped."""

from typing import Any, Literal, Self

from pydantic import (
    ConfigDict,
    StrictBool,
    StrictStr,
    model_validator,
)

from aimicromind_schemas.messages.envelope import ChatEvent
from aimicromind_schemas.shape import Shape
from aimicromind_schemas.vocabulary import EndStatus, FailureKind
from aimicromind_schemas.wire import Count, Seconds, Text, Whole


class WorkerData(Shape):
    """A shape of the worker."""

    model_config = ConfigDict(validate_by_alias=True, validate_by_name=True, extra="ignore")


class SparseData(WorkerData):
    """A shape some of whose members are there only where there is something to say."""

    @model_validator(mode="after")
    def _without_absent(self) -> Self:
        # Only members that were set are written. A required one may be null.
        for name, field in type(self).model_fields.items():
            if getattr(self, name) is None and not field.is_required():
                self.model_fields_set.discard(name)
        return self


class StartData(SparseData):
    """Comes with the first sign of an answer."""

    tags: dict[Text, Text]
    """The job's tags."""

    redelivered: StrictBool
    """Whether the broker had handed the job out before."""

    upstream: Any
    """What the endpoint's own `start` carried, if that came first. No part of the answer."""

    handle: StrictStr | None = None
    """Where the job's events begin in the event log, where the worker knows; opaque."""


class RetryData(WorkerData):
    """This attempt is over: drop what it showed."""

    kind: FailureKind
    """Why it ended."""

    message: Text
    """The same for people."""

    next_attempt: Count
    """The attempt that follows."""

    delay_seconds: Seconds
    """How long until it begins, at least."""


class ErrorData(SparseData):
    """The job failed for good; its `end` follows."""

    kind: FailureKind
    """Why it failed."""

    message: Text
    """The same for people."""

    http_status: Whole | None = None
    """Status of the endpoint's response, where that was the reason."""


class Usage(SparseData):
    """Tokens that the model's provider counted, summed over all calls of the job that told.

    Calls that were lost with a worker are missing, and so are flows that send no `usageMetadata`.
    """

    input: Count | None = None
    """Tokens of the prompts."""

    output: Count | None = None
    """Tokens of the answers."""

    total: Count | None = None
    """All of them."""


class EndData(SparseData):
    """How the job ended."""

    status: EndStatus
    """`completed` is a whole answer; with anything else `text` may be part of one."""

    attempts: Count
    """Attempts that could publish, this one included."""

    calls: Count
    """Prediction calls made, which is what was billed."""

    events: Count
    """Events of the winning attempt."""

    duration_seconds: Seconds
    """From the first delivery of the job to its end."""

    text: Text
    """The whole answer of the winning attempt: its tokens in order."""

    recovered: StrictBool
    """Whether the answer, or its rest, was fetched from the endpoint's memory."""

    tags: dict[Text, Text]
    """The job's tags."""

    answer: Any = None
    """The server's whole JSON answer, where the job asked for it by `answer`."""

    usage: Usage | None = None
    """What the job cost, superseded attempts included, where the server told."""

    waits_for: StrictStr | None = None
    """`human` where the flow has paused on an `action` that somebody must answer."""

    handle: StrictStr | None = None
    """Where the job's events begin in the event log, where the worker knows; opaque."""


class OtherData(WorkerData):
    """An event of the flow whose own name could not be used."""

    name: Text
    """The name the flow gave it."""

    data: Any
    """Its data, as it came."""


class StartEvent(ChatEvent):
    """First event of an attempt that shows anything: drop what earlier attempts showed."""

    event: Literal["start"] = "start"
    data: StartData


class RetryEvent(ChatEvent):
    """This attempt is over and another follows."""

    event: Literal["retry"] = "retry"
    data: RetryData


class ErrorEvent(ChatEvent):
    """The job failed for good; `end` follows."""

    event: Literal["error"] = "error"
    data: ErrorData


class EndEvent(ChatEvent):
    """The job ended. A repeat has the same message id; nothing else follows."""

    event: Literal["end"] = "end"
    data: EndData


class OtherEvent(ChatEvent):
    """An event of the flow whose own name the worker uses itself, or which fits no routing key."""

    event: Literal["other"] = "other"
    data: OtherData
