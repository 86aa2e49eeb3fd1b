"""Events whose data the endpoint writes; the worker passes the data on unchanged.

Without a documented shape, `data` is any JSON value. An event with a known name and data of another
shape is a `GenericEvent` with that name.
"""

from typing import Any, Literal

from aimicromind_schemas.messages.envelope import ChatEvent
from aimicromind_schemas.messages.payloads import (
    Action,
    AgentReasoning,
    AgentTrace,
    ExecutedNode,
    Metadata,
    NodeStatus,
    SourceDocument,
    UsageMetadata,
    UsedTool,
)
from aimicromind_schemas.wire import Seconds, Text


class TokenEvent(ChatEvent):
    """The next piece of the answer: append it. May be empty, or the whole answer."""

    event: Literal["token"] = "token"
    data: Text


class SourceDocumentsEvent(ChatEvent):
    """The passages that the answer rests on."""

    event: Literal["sourceDocuments"] = "sourceDocuments"
    data: tuple[SourceDocument, ...]


class UsedToolsEvent(ChatEvent):
    """Tools that were called, with their results. Entries may be null."""

    event: Literal["usedTools"] = "usedTools"
    data: tuple[UsedTool | None, ...]


class CalledToolsEvent(ChatEvent):
    """Tools an agent is about to use, results still empty. An empty list: it uses none."""

    event: Literal["calledTools"] = "calledTools"
    data: tuple[UsedTool | None, ...]


class MetadataEvent(ChatEvent):
    """The endpoint's record of a successful answer, shortly before its end."""

    event: Literal["metadata"] = "metadata"
    data: Metadata


class ThinkingEvent(ChatEvent):
    """A piece of the model's reasoning; no part of the answer."""

    event: Literal["thinking"] = "thinking"
    data: Text
    duration: Seconds | None = None
    """How long the model thought, as the endpoint counts it. Beside `data`, where known."""


class AgentReasoningEvent(ChatEvent):
    """What each agent of a multi-agent flow did so far."""

    event: Literal["agentReasoning"] = "agentReasoning"
    data: tuple[AgentReasoning, ...]


class AgentTraceEvent(ChatEvent):
    """A step inside an agent."""

    event: Literal["agent_trace"] = "agent_trace"
    data: AgentTrace


class NextAgentEvent(ChatEvent):
    """The agent that takes over."""

    event: Literal["nextAgent"] = "nextAgent"
    data: Any


class AgentFlowEvent(ChatEvent):
    """State of an agent flow: `INPROGRESS`, `FINISHED`, `STOPPED`, `ERROR`, or a newer one."""

    event: Literal["agentFlowEvent"] = "agentFlowEvent"
    data: Text


class NextAgentFlowEvent(ChatEvent):
    """A node of an agent flow that began or ended."""

    event: Literal["nextAgentFlow"] = "nextAgentFlow"
    data: NodeStatus


class AgentFlowExecutedDataEvent(ChatEvent):
    """The whole execution list of an agent flow, sent again after every node."""

    event: Literal["agentFlowExecutedData"] = "agentFlowExecutedData"
    data: tuple[ExecutedNode, ...]


class ArtifactsEvent(ChatEvent):
    """Files that the flow made."""

    event: Literal["artifacts"] = "artifacts"
    data: tuple[Any, ...]


class FileAnnotationsEvent(ChatEvent):
    """Files that the answer refers to."""

    event: Literal["fileAnnotations"] = "fileAnnotations"
    data: Any


class ActionEvent(ChatEvent):
    """The flow waits for a human, whose answer is a job with `humanInput`."""

    event: Literal["action"] = "action"
    data: Action


class UsageMetadataEvent(ChatEvent):
    """Tokens counted by the model's provider."""

    event: Literal["usageMetadata"] = "usageMetadata"
    data: UsageMetadata


class ToolEvent(ChatEvent):
    """A tool at work."""

    event: Literal["tool"] = "tool"
    data: Any


class AbortEvent(ChatEvent):
    """The endpoint stopped the run on request."""

    event: Literal["abort"] = "abort"
    data: Any


class TtsStartEvent(ChatEvent):
    """Spoken output begins."""

    event: Literal["tts_start"] = "tts_start"
    data: Any


class TtsDataEvent(ChatEvent):
    """A piece of spoken output."""

    event: Literal["tts_data"] = "tts_data"
    data: Any


class TtsEndEvent(ChatEvent):
    """Spoken output is over."""

    event: Literal["tts_end"] = "tts_end"
    data: Any
