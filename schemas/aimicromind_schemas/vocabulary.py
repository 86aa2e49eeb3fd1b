"""The closed lists of the contract: event names, endings of a job, kinds of failure.

Which event means what to a consumer is said here once. The shapes of the events are elsewhere.
"""

from enum import StrEnum
from typing import Final

WORKER_EVENTS: Final = frozenset({"start", "retry", "error", "end", "other"})
"""Names whose data the worker itself writes."""

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
"""Names whose data comes from the endpoint. A flow may send others: they become generic events."""

EVENT_NAMES: Final = WORKER_EVENTS | ENDPOINT_EVENTS
"""Every name that has a class of its own."""

TERMINAL: Final = frozenset({"end"})
"""After the first of these, nothing of the job follows."""

SIDE_EFFECT_EVENTS: Final = frozenset({"usedTools", "calledTools", "tool", "action"})
"""Signs that a flow acted on the world, so that running it again might act twice.

The name alone does not decide: a `calledTools` with an empty list reports that no tool was called.
"""

OUTPUT_EVENTS: Final = SIDE_EFFECT_EVENTS | {"token", "sourceDocuments", "artifacts"}
"""Events that show an answer. An attempt without one can be run again unseen.

Here too an empty `calledTools` is no output; whoever decides looks at the data as well.
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
