"""Closed lists of the contract: names of events, statuses of an `end`, kinds of failure."""

from enum import StrEnum
from typing import Final

WORKER_EVENTS: Final = frozenset({"start", "retry", "error", "end", "other"})
"""Names of events whose data the worker writes."""

ENDPOINT_EVENTS: Final = frozenset(
    {
        "token",
        "sourceDocuments",
        "usedTools",
        "metadata",
        "thinking",
        "calledTools",
        "agentReasoning",
        "nextAgent",
        "agentFlowEvent",
        "nextAgentFlow",
        "agentFlowExecutedData",
        "artifacts",
        "fileAnnotations",
        "action",
        "usageMetadata",
        "tool",
        "abort",
        "tts_start",
        "tts_data",
        "tts_end",
        "agent_trace",
    }
)
"""Names of events whose data the endpoint writes. Other names are generic events."""

EVENT_NAMES: Final = WORKER_EVENTS | ENDPOINT_EVENTS
"""Names with a class of their own."""

TERMINAL: Final = frozenset({"end"})
"""Names of the last event of a job; the first one counts."""

SIDE_EFFECT_EVENTS: Final = frozenset({"usedTools", "calledTools", "tool", "action"})
"""Names of events that report a tool or action: another run of the flow might repeat it.

A `calledTools` with an empty list reports no tool. Thus the data must be checked, too.
"""

OUTPUT_EVENTS: Final = SIDE_EFFECT_EVENTS | {"token", "sourceDocuments", "artifacts"}
"""Names of events that show an answer. A call without one can be repeated in the same attempt.

A `calledTools` with an empty list is no output.
"""


class EndStatus(StrEnum):
    """How a job ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"


class FailureKind(StrEnum):
    """Why an attempt or a job failed. Messages may be reworded, these values stay."""

    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    CHATFLOW_NOT_FOUND = "chatflow_not_found"
    BAD_REQUEST = "bad_request"
    RATE_LIMITED = "rate_limited"
    ENDPOINT_UNAVAILABLE = "endpoint_unavailable"
    ENDPOINT_ERROR = "endpoint_error"
    NO_ANSWER = "no_answer"
    STREAM_CUT = "stream_cut"
    STREAM_STALLED = "stream_stalled"
    STREAM_MIXED = "stream_mixed"
    TIMEOUT = "timeout"
    TOO_LARGE = "too_large"
    TLS_ERROR = "tls_error"
    REDIRECT_REFUSED = "redirect_refused"
    CONFIGURATION = "configuration"
    INVALID_JOB = "invalid_job"
    REPEAT_UNSAFE = "repeat_unsafe"
    DELIVERY_LIMIT = "delivery_limit"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    SHUTDOWN = "shutdown"
    INTERNAL = "internal"
