"""The union of all events, and the reading of an event from a JSON object."""

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
"""Any event, as `decode` returns it and `encode` takes it."""

_KNOWN: Final[TypeAdapter[KnownEvent]] = TypeAdapter(
    Annotated[KnownEvent, Field(discriminator="event")]
)


class NotAnEvent(ValueError):
    """A message is no event of a chat.

    Attributes:
        unreadable: Members of the envelope that are missing or ill-typed.
    """

    def __init__(self, unreadable: tuple[str, ...] = ()) -> None:
        """Write the sentence.

        Args:
            unreadable: Names of these members; empty if the body is no JSON object.
        """
        self.unreadable = unreadable
        super().__init__(
            f"Not an event: {', '.join(unreadable)} missing or of the wrong type."
            if unreadable
            else "Not an event: the body is no JSON object in UTF-8."
        )


def event_from(fields: dict[str, Any]) -> Event:
    """Return the event in a JSON object: of the class for its name, else a GenericEvent.

    Args:
        fields: The members by their names in JSON; `time` may be an aware datetime.

    Raises:
        NotAnEvent: A member of the envelope is missing or ill-typed.
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
