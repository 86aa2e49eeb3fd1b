"""Data of the endpoint's events that is more than a text; unknown fields are kept."""

from typing import Any

from pydantic import ConfigDict

from aimicromind_schemas.shape import Shape
from aimicromind_schemas.wire import Count, Text


class EndpointData(Shape):
    """A shape of the endpoint. Only fields that were there are written again."""

    model_config = ConfigDict(extra="allow")


class SourceDocument(EndpointData):
    """A passage that the answer rests on."""

    page_content: Text
    """The passage."""

    metadata: dict[str, Any]
    """Where it comes from, as the flow's loader describes it."""

    id: Text | None = None
    """Its id in the vector store."""


class UsedTool(EndpointData):
    """One call of a tool."""

    tool: Text
    """Name of the tool."""

    tool_input: Any = None
    """Arguments, an object as a rule."""

    tool_output: Any = None
    """Result; an empty string while the call is under way."""


class Metadata(EndpointData):
    """The endpoint's own record of the answer. Never holds the answer's text."""

    chat_id: Text | None = None
    """The conversation, as in the envelope."""

    endpoint_chat_id: Text | None = None
    """The chatId that this call had at the endpoint: its messages are saved under it."""

    chat_message_id: Text | None = None
    """Id of the saved answer."""

    question: Text | None = None
    """The question that was answered."""

    session_id: Text | None = None
    """The memory session that the flow used."""

    memory_type: Text | None = None
    """Kind of memory that the flow has."""

    action: Any = None
    """The open action, when a human must answer."""

    follow_up_prompts: Any = None
    """Questions that the endpoint suggests next."""

    flow_variables: Any = None
    """Variables of the flow after the run."""


class AgentReasoning(EndpointData):
    """What one agent of a multi-agent flow did."""

    agent_name: Text
    """Name of the agent."""

    messages: Any = None
    """What it said."""

    used_tools: tuple[UsedTool | None, ...] | None = None
    """Tools it called; entries may be null."""

    source_documents: tuple[SourceDocument | None, ...] | None = None
    """Passages it found; entries may be null."""

    artifacts: Any = None
    """Files it made."""

    state: Any = None
    """State of the flow after it."""

    node_name: Text | None = None
    """Type of its node."""

    node_id: Text | None = None
    """Id of its node."""


class NodeStatus(EndpointData):
    """A node of an agent flow that began or ended."""

    node_id: Text
    """Id of the node."""

    node_label: Text
    """Its title in the editor."""

    status: Text
    """`INPROGRESS`, `FINISHED`, `STOPPED`, `ERROR`, or what a newer endpoint adds."""

    error: Any = None
    """What went wrong, with `ERROR`."""


class ExecutedNode(EndpointData):
    """One entry of the execution list of an agent flow."""

    node_id: Text
    """Id of the node."""

    node_label: Text
    """Its title in the editor."""

    data: dict[str, Any]
    """Input, output and state of the node."""

    previous_node_ids: tuple[Text, ...]
    """Nodes that led to it."""

    status: Text
    """`INPROGRESS`, `FINISHED`, `STOPPED`, `ERROR`, or what a newer endpoint adds."""


class UsageMetadata(EndpointData):
    """Tokens counted by the model's provider."""

    model_config = ConfigDict(alias_generator=None)

    input_tokens: Count | None = None
    """Tokens of the prompt."""

    output_tokens: Count | None = None
    """Tokens of the answer."""

    total_tokens: Count | None = None
    """Both together."""


class Action(EndpointData):
    """A question to a human; the flow waits until a job answers it with `humanInput`."""

    id: Text
    """Id of the action."""

    mapping: dict[str, Any] | None = None
    """Labels of the answers, by `approve` and `reject`."""

    elements: tuple[Any, ...] | None = None
    """Buttons to show."""

    data: dict[str, Any] | None = None
    """The node that asks, and its input."""


class AgentTrace(EndpointData):
    """A step inside an agent."""

    step: Text
    """Kind of step, such as `agent_action` or `tool_start`."""
