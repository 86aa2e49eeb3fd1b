"""Cause and remedy of each failure, as the sentences of docs/failures.md.

The cause of a call's failure is the first line of its class's docstring, unless a case has its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from inspect import getdoc
from typing import Final

from aimicromind_schemas import FailureKind
from aimicromind_worker.core.endpoint import errors
from aimicromind_worker.core.endpoint.call_failed import CallFailed

_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class CallCase:
    """A failure of a call.

    Attributes:
        failure: The error that the call raises.
        remedy: What to do, as a sentence.
        told: The cause, where the docstring of the class does not tell it from another case.
        early: Whether it happens before the response, hence never after output.
        key_refused: Whether the server has rejected the key for calls of the flow before.
    """

    failure: CallFailed
    remedy: str
    told: str = ""
    early: bool = False
    key_refused: bool = False

    @property
    def cause(self) -> str:
        """The cause, as a sentence."""
        return self.told or (getdoc(type(self.failure)) or "").split("\n", maxsplit=1)[0]


@dataclass(frozen=True, slots=True)
class OwnCase:
    """A failure that the worker finds itself, without a call."""

    kind: FailureKind
    cause: str
    remedy: str


def _key_refused() -> CallFailed:
    refused = errors.Unauthorized()
    refused.by_server = True
    return refused


_WAIT: Final = "None: the jobs wait and continue by themselves."
_AGAIN: Final = "None if it passes; else look at the server, then replay the dead letters."

CALL_CASES: Final[Sequence[CallCase]] = (
    CallCase(
        errors.Unauthorized(),
        "Correct `AIMICROMIND_API_KEY`, or the model's credential in the flow; then replay.",
    ),
    CallCase(
        _key_refused(),
        "Correct `AIMICROMIND_API_KEY`; the jobs wait and continue by themselves.",
        "The server itself refused the key for five calls of the flow in a row.",
        early=True,
        key_refused=True,
    ),
    CallCase(errors.Forbidden(), "Allow the call at the server or the model; then replay."),
    CallCase(
        errors.ChatflowNotFound("FLOW_ID"),
        "Correct `AIMICROMIND_BASE_URL`, then replay; if the id is wrong, submit the job anew.",
        early=True,
    ),
    CallCase(errors.BadRequest(), "Correct the job or the flow, as the message says."),
    CallCase(
        errors.RateLimited(),
        "None if it passes; else lower `AIMICROMIND_CONCURRENCY`, or raise the limit.",
    ),
    CallCase(
        errors.EndpointUnavailable(request_sent=False),
        "Start the server, or correct `AIMICROMIND_BASE_URL`; the jobs wait and continue.",
        "The endpoint could not be reached. After two such calls in a row the next row applies.",
        early=True,
    ),
    CallCase(errors.EndpointDown(), _WAIT, early=True),
    CallCase(
        errors.EndpointUnavailable(http_status=503),
        _AGAIN,
        "The endpoint or the model behind it said that it is overloaded, or a gateway answered.",
    ),
    CallCase(errors.EndpointError(), "Look at the flow's log at the server; then replay."),
    CallCase(
        errors.EmptyResponse(204),
        "Check `AIMICROMIND_BASE_URL`, and what is before the server.",
        early=True,
    ),
    CallCase(errors.RunAborted(), "None: somebody stopped the run at the server."),
    CallCase(errors.NoAnswer(), "Look at the flow's log at the server; then replay."),
    CallCase(errors.StreamCut("x"), "Look for proxies and time limits between worker and server."),
    CallCase(
        errors.StreamStalled(_SECOND),
        "Raise `AIMICROMIND_IDLE_TIMEOUT_SECONDS` if the flow is silent for longer.",
    ),
    CallCase(
        errors.StreamMixed(), "Let no other client use the conversation's chatId at the server."
    ),
    CallCase(
        errors.HeadersOverdue(_SECOND),
        "Find out why the server is slow, or raise `AIMICROMIND_FIRST_BYTE_TIMEOUT_SECONDS`.",
        early=True,
    ),
    CallCase(
        errors.AttemptOverdue(_SECOND),
        "Raise `AIMICROMIND_ATTEMPT_TIMEOUT_SECONDS`, or the job's own `timeoutSeconds`.",
    ),
    CallCase(
        errors.FrameTooLarge(1),
        "Have the flow send less at once, or raise `AIMICROMIND_MAX_FRAME_BYTES`.",
    ),
    CallCase(
        errors.AnswerTooLarge(1),
        "Have the flow answer in less text; see `AIMICROMIND_MAX_ANSWER_BYTES`.",
    ),
    CallCase(
        errors.RequestTooLarge(), "Make the job smaller, or raise the server's limit.", early=True
    ),
    CallCase(
        errors.TlsRefused("x"),
        "Correct the certificates, `AIMICROMIND_CA_FILE`, `AIMICROMIND_CLIENT_CERTIFICATE`.",
        early=True,
    ),
    CallCase(
        errors.RedirectRefused("host", http_status=302),
        "Set `AIMICROMIND_BASE_URL` to the address that the message names.",
        early=True,
    ),
    CallCase(
        errors.Misconfigured("x"),
        "Correct `AIMICROMIND_BASE_URL` or `AIMICROMIND_PREDICTION_PATH`.",
        early=True,
    ),
)

OWN_CASES: Final[Sequence[OwnCase]] = (
    OwnCase(
        FailureKind.INVALID_JOB,
        "The message is no valid job, or its `reply_to` names a queue of the worker.",
        "Correct the producer, as the message says.",
    ),
    OwnCase(
        FailureKind.TOO_LARGE,
        "The job is longer than `AIMICROMIND_MAX_JOB_BYTES`, as it came or decompressed.",
        "Make the job smaller.",
    ),
    OwnCase(
        FailureKind.REPEAT_UNSAFE,
        "A second call could repeat an action, or the job forbids one; no answer was saved.",
        "Look at what the flow did; replay the dead letter if a second run is harmless.",
    ),
    OwnCase(
        FailureKind.DELIVERY_LIMIT,
        "Workers were lost with the job too often, or the queue's delivery limit was reached.",
        "Find out what ends the workers; then replay the dead letter.",
    ),
    OwnCase(
        FailureKind.EXPIRED,
        "The job's time ran out: `expiresAt`, `expiration`, `AIMICROMIND_JOB_LIFETIME_SECONDS`.",
        "Submit it again with more time, or run more workers.",
    ),
    OwnCase(
        FailureKind.CANCELLED,
        "Somebody asked to stop the job. No event carries this kind, the `end` has the status.",
        "None.",
    ),
    OwnCase(FailureKind.SHUTDOWN, "The worker drains before the job is done.", _WAIT),
    OwnCase(
        FailureKind.INTERNAL,
        "A fault in the worker met this job alone.",
        "Look at the worker's log for the job's id, and report the fault.",
    ),
)
