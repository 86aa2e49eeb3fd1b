"""Values that pass between `runs/` and its adapters, `http/` and `amqp/`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

Pieces = tuple[bytes | memoryview, ...]
"""Bytes that are written one after the other, and never joined where they are many."""

Take = Callable[[bytes], bool]
"""Takes the bytes that came, never none, and says whether it wants more."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the events of one attempt go, and what all of them carry.

    Attributes:
        chat_id: Names the routing keys.
        chatflow_id: Header `chatflowId`.
        attempt: Header `attempt`.
        correlation_id: The job's, else its jobId; at most 255 bytes.
        reply_to: Queue that gets a copy of each event.
        traceparent: W3C trace context of the job.
    """

    chat_id: str
    chatflow_id: str
    attempt: int
    correlation_id: str
    reply_to: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class FlowFacts:
    """What the endpoint says of a flow.

    Attributes:
        streams: Whether it streams; None where nobody knows.
        own_documents: Whether it answers from documents that were uploaded to a conversation,
            which it finds by the chatId of the call.
    """

    streams: bool | None
    own_documents: bool = False


@dataclass(slots=True)
class Sending:
    """What became of a request.

    Attributes:
        begun: Whether the endpoint may have had some of it.
    """

    begun: bool = False


@dataclass(frozen=True, slots=True)
class PredictionCall:
    """One request to the endpoint.

    Attributes:
        chatflow_id: The flow.
        endpoint_chat_id: The chatId of this call alone, or the conversation's.
        body: The request, JSON.
        streams: Whether the flow is taken to stream; one that cannot sends its response
            headers last.
        trace: Headers `traceparent` and `tracestate` to pass on.
        sending: What became of it.
    """

    chatflow_id: str
    endpoint_chat_id: str
    body: Pieces = field(repr=False)
    streams: bool
    trace: Mapping[str, str]
    sending: Sending = field(default_factory=Sending, compare=False)


class Body(Protocol):
    """The bytes of an answer, as they come."""

    async def pump(self, take: Take) -> bool:
        """Return chunks, cut anywhere, until the body ends or enough is taken.

        Returns:
            Whether there may be more.

        Raises:
            StreamCut: The body broke off.
        """


@dataclass(frozen=True, slots=True)
class EventStream:
    """An answer that comes as server-sent events."""

    body: Body


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """The JSON answer of a flow that cannot stream."""

    body: bytes = field(repr=False)


Response = EventStream | WholeAnswer
