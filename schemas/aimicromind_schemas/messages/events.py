"""Every event as one type, and the way from a JSON object to it."""

from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter, ValidationError

from aimicromind_schemas.messages.endpoint_events import (
    AbortEvent,
    ActionEvent,
    AgentFlowEvent,
    AgentFlowExecutedDataEvent,
    AgentReasoningEvent,
    AgentTraceEvent,
    ArtifactsEvent,
    CalledToolsEvent,
    FileAnnotationsEvent,
    MetadataEvent,
    NextAgentEvent,
    NextAgentFlowEvent,
    SourceDocumentsEvent,
    ThinkingEvent,
    TokenEvent,
    ToolEvent,
    TtsDataEvent,
    TtsEndEvent,
    TtsStartEvent,
    UsageMetadataEvent,
    UsedToolsEvent,
)
from aimicromind_schemas.messages.envelope import GenericEvent
from aimicromind_schemas.messages.worker_events import (
    EndEvent,
    ErrorEvent,
    OtherEvent,
    RetryEvent,
    StartEvent,
)

KnownEvent = (
    StartEvent
    | TokenEvent
    | SourceDocumentsEvent
    | UsedToolsEvent
    | MetadataEvent
    | ThinkingEvent
    | CalledToolsEvent
    | AgentReasoningEvent
    | NextAgentEvent
    | AgentFlowEvent
    | NextAgentFlowEvent
    | AgentFlowExecutedDataEvent
    | ArtifactsEvent
    | FileAnnotationsEvent
    | ActionEvent
    | UsageMetadataEvent
    | ToolEvent
    | AbortEvent
    | TtsStartEvent
    | TtsDataEvent
    | TtsEndEvent
    | AgentTraceEvent
    | OtherEvent
    | RetryEvent
    | ErrorEvent
    | EndEvent
)
"""One class for each name of the contract."""

Event = KnownEvent | GenericEvent
"""What `decode` gives and `encode` takes."""

_KNOWN: Final[TypeAdapter[KnownEvent]] = TypeAdapter(
    Annotated[KnownEvent, Field(discriminator="event")]
)


class NotAnEvent(ValueError):
    """A message that is no event of a chat."""

    def __init__(self, unreadable: tuple[str, ...] = ()) -> None:
        """Name the envelope's missing or ill-typed members; none: it is no object."""
        self.unreadable = unreadable
        super().__init__(
            f"Not an event: {', '.join(unreadable)} missing or of the wrong type."
            if unreadable
            else "Not an event: the body is no JSON object in UTF-8."
        )


def event_from(fields: dict[str, Any]) -> Event:
    """Find the class of an event and fill it.

    Args:
        fields: The members by their names on the wire; `time` may be an aware datetime.

    Raises:
        NotAnEvent: A member of the envelope is missing or has the wrong type. Never on account
            of an unknown name or an unexpected shape of the data: those give a GenericEvent.
    """
    try:
        return _KNOWN.validate_python(fields, by_alias=True, by_name=False)
    except ValidationError:
        return _generic(fields)


def _generic(fields: dict[str, Any]) -> GenericEvent:
    try:
        return GenericEvent.model_validate(fields, by_alias=True, by_name=False)
    except ValidationError as error:
        unreadable = dict.fromkeys(str(problem["loc"][0]) for problem in error.errors())
        raise NotAnEvent(tuple(unreadable)) from None
