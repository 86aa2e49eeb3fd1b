"""Values that pass between `runs/` and its adapters, `http/` and `amqp/`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

Pieces = tuple[bytes | memoryview, ...]
"""Bytes to write one after the other; long ones are never joined."""

Take = Callable[[bytes], bool]
"""Takes the next bytes, at least one, and returns whether it wants more."""


@dataclass(frozen=True, slots=True)
class Address:
    """Routing and common headers of the events of one attempt.

    Attributes:
        chat_id: Chat in the routing keys.
        chatflow_id: Header `chatflowId`.
        attempt: Header `attempt`.
        correlation_id: That of the job, else its jobId; at most 255 bytes.
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
    """Properties of a flow, as the endpoint reports them.

    Attributes:
        streams: Whether it streams; None if unknown.
        own_documents: Whether it uses documents that were uploaded to a conversation. It finds
            them by the chatId of the call.
    """

    streams: bool | None
    own_documents: bool = False


@dataclass(slots=True)
class Sending:
    """Progress of sending a request.

    Attributes:
        begun: Whether the endpoint may have received a part of it.
    """

    begun: bool = False


@dataclass(frozen=True, slots=True)
class PredictionCall:
    """One request to the endpoint.

    Attributes:
        chatflow_id: The flow.
        endpoint_chat_id: chatId of this call alone, or of the conversation.
        body: Body of the request, JSON.
        streams: Whether the flow is assumed to stream. One that cannot stream sends its response
            headers last.
        trace: Headers `traceparent` and `tracestate` to pass on.
        sending: Progress of sending it.
    """

    chatflow_id: str
    endpoint_chat_id: str
    body: Pieces = field(repr=False)
    streams: bool
    trace: Mapping[str, str]
    sending: Sending = field(default_factory=Sending, compare=False)


class Body(Protocol):
    """The bytes of an answer, as they arrive."""

    async def pump(self, take: Take) -> bool:
        """Pass chunks, cut anywhere, to `take` until the body ends or `take` returns false.

        Returns:
            Whether there may be more.

        Raises:
            StreamCut: The body broke off.
        """


@dataclass(frozen=True, slots=True)
class EventStream:
    """An answer in server-sent events."""

    body: Body


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """The JSON answer of a flow that cannot stream."""

    body: bytes = field(repr=False)


Response = EventStream | WholeAnswer
