"""Rows for texts that the endpoint writes itself, about a run, a flow or a job."""

from typing import Final

from aimicromind_worker.core.endpoint.errors import BadRequest, EndpointUnavailable, RunAborted
from aimicromind_worker.core.endpoint.failure_table.row import (
    COMPONENTS,
    END,
    SERVER,
    row,
)

ROWS: Final = (
    # The run was stopped, by a timeout or by somebody.
    row(
        EndpointUnavailable,
        "undici",
        ("The operation was aborted due to timeout",),
        within=r"\baborted due to (?:a )?timeout\b",
    ),
    row(
        RunAborted,
        f"{SERVER}/utils/buildAgentflow.ts, {COMPONENTS}/nodes/sequentialagents, OpenAI's client",
        (
            "Aborted!",
            "Error in LLM node: This operation was aborted",
            "Request was aborted.",
            "The user aborted a request.",
            "Run aborted by user",
        ),
        begins=rf"aborted{END}",
        within=r"\b(?:operation|request|run|execution) was aborted\b|\bAbortError\b"
        r"|\babort(?:ed)? by (?:the |a )?user\b|\bthe user aborted\b",
    ),
    # These last until somebody changes the flow or the job.
    row(
        BadRequest,
        f"{SERVER}/utils/buildAgentflow.ts, {COMPONENTS}/nodes/agentflow/Agent/Agent.ts",
        (
            "Invalid history format. Each history item must have: …",
            "Question and form cannot be provided at the same time",
            "Cannot resume execution … because it is in 'FINISHED' state. …",
            "No previous execution found for session …",
            "No stopped node found in previous execution data to resume from",
            "Node … not found in previous execution. …",
            "Invalid human input type. Expected 'proceed' or 'reject', but got '…'",
            "Execution … not found",
        ),
        begins=r"invalid history format|question and form cannot be provided at the same time"
        r"|cannot resume execution\b|no previous execution found\b"
        r"|no stopped node found in previous execution|node \S{1,200} not found in previous"
        r"|invalid human input type\b|execution \S{1,200} not found",
    ),
    row(
        BadRequest,
        f"{SERVER}/utils/buildAgentflow.ts, buildAgentGraph.ts, buildChatflow.ts, index.ts; "
        f"{COMPONENTS}/nodes/agentflow/ExecuteFlow",
        (
            "Multiple starting nodes are not allowed",
            "Start input type not found",
            "This flow is configured as a Webhook Trigger. …",
            "Node not found",
            "Graph should have only one start node",
            "Ending nodes not found",
            "Ending node must be either a Chain or Agent or Engine",
            "Output of … must be …, can't be an Output Prediction",
            "Workspace … not found",
            "Cannot call the same agentflow!",
            "Invalid base URL: must be a valid URL",
        ),
        begins=r"multiple starting nodes are not allowed|start input type not found"
        r"|this flow is configured as a (?:webhook|scheduled) trigger"
        r"|(?:start )?node not found|graph should have\b|ending nodes? \b"
        r"|output of .{1,200} must be\b|(?:workspace|organization) \S{1,200} not found"
        r"|cannot call the same (?:agent|chat)flow|invalid base url\b"
        r"|invalid (?:chat|agent)?flow id\b",
    ),
    row(
        BadRequest,
        f"{SERVER}/controllers/predictions/index.ts",
        ("Error: predictionsController.createPrediction - body not provided!",),
        begins=r"(?:id|body) not provided",
    ),
    row(
        BadRequest,
        f"{COMPONENTS}/src/validator.ts, storageUtils.ts, speechToText.ts",
        (
            "Invalid filename: …",
            "Invalid or unsafe fileName detected",
            "Invalid path characters detected",
            "Invalid MIME type: expected application/pdf",
            'MIME type "…" is not supported or does not have a valid file extension mapping',
            "MIME type mismatch: file extension …",
            "File type not allowed: files must have a valid file extension",
            "File … not found",
            "Speech to text is not selected, but found a recorded audio file. …",
            "Please provide image as base64 encoded data URL",
        ),
        begins=r"invalid (?:or unsafe )?file ?name\b|invalid file path|invalid path(?::| char)"
        r"|(?:invalid )?mime type\b|file type not allowed|file \S{1,200} not found"
        r"|speech to text is not selected|please provide image as base64|unsupported file type",
    ),
    row(
        BadRequest,
        f"{COMPONENTS}/nodes/agentflow, nodes/sequentialagents, nodes/chains, nodes/agents, "
        "nodes/chatmodels",
        (
            "Form is required",
            "Error in LLM node: Model is required",
            "LLM Node name is required!",
            "End must have a predecessor!",
            "Invalid JSON in the Custom Function Input Variables: …",
            "Please provide Prompt Values for: …",
            "Agent needs to have a function calling capable models.",
            "LLM Node only compatible with function calling models.",
            "This model does not support images",
            "This model is no longer supported",
        ),
        begins=r"[\w ']{1,60} (?:is|are) required\b[^,;]{0,80}$"
        r"|[\w ']{1,60} must have a predecessor\b|invalid json\b|please provide prompt values"
        r"|tools must not be empty|(?:agent|supervisor) needs to have a function calling"
        r"|provided prompt is missing|this agent requires that the .bindtools"
        r"|this model does not support\b|unsupported (?:source type|message input)",
        within=r"\bonly compatible with function calling models\b"
        r"|\b(?:is|are) no longer supported\b",
    ),
)
