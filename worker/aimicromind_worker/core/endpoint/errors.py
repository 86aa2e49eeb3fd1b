"""The failures of a call, each with its public kind and the sentence that readers get.

A sentence may quote the endpoint, whose text can hold a prompt or a key. Logs, `/readyz` and spans
therefore use `words`, which quote nothing.
"""

from datetime import timedelta

from aimicromind_schemas import FailureKind
from aimicromind_worker.core.endpoint.call_failed import (
    Doubtful,
    Lasting,
    Passing,
    Quoting,
    is_from_gateway,
    quoted,
)


class EndpointUnavailable(Passing):
    """The endpoint cannot be reached, or says that it is overloaded."""

    kind = FailureKind.ENDPOINT_UNAVAILABLE

    def __init__(
        self,
        quote: str = "",
        *,
        because: str = "",
        http_status: int | None = None,
        retry_after: timedelta | None = None,
        request_sent: bool = True,
    ) -> None:
        """Write the sentence from a text of the endpoint, or from what is known.

        Args:
            quote: Text of the endpoint.
            because: Reason in our own words.
            http_status: Status of the response.
            retry_after: Wait that the endpoint asked for.
            request_sent: Whether the endpoint may have received the request.
        """
        words = "the endpoint is unavailable"
        super().__init__(
            f"{words}: {because}" if because else words, quote, http_status=http_status
        )
        self.retry_after = retry_after
        self.request_sent = request_sent
        self.speaks_for_server = not request_sent or is_from_gateway(http_status)


class EndpointDown(Passing):
    """No call was made: the circuit breaker found the endpoint down for everybody."""

    kind = FailureKind.ENDPOINT_UNAVAILABLE
    request_sent = False

    def __init__(self) -> None:
        super().__init__("the endpoint is unavailable: earlier calls were not answered")


class TlsRefused(Passing):
    """The endpoint's certificate, or ours, was not accepted: nothing was sent."""

    kind = FailureKind.TLS_ERROR

    def __init__(self, reason: str) -> None:
        super().__init__(f"no TLS connection to the endpoint: {quoted(reason)}")
        self.request_sent = False


class RateLimited(Passing):
    """The endpoint, or the model behind it, has had too many requests."""

    kind = FailureKind.RATE_LIMITED

    def __init__(self, quote: str = "", *, retry_after: timedelta | None = None) -> None:
        super().__init__("too many requests", quote)
        self.retry_after = retry_after


class HeadersOverdue(Passing):
    """The endpoint took the request and sent no response headers in time."""

    kind = FailureKind.TIMEOUT
    speaks_for_server = True

    def __init__(self, limit: timedelta) -> None:
        super().__init__(f"no response from the endpoint within {limit.total_seconds():g} s")


class AttemptOverdue(Passing):
    """The attempt's time passed before the endpoint ended the stream."""

    kind = FailureKind.TIMEOUT
    run_goes_on = True

    def __init__(self, limit: timedelta) -> None:
        super().__init__(f"the answer was not complete within {limit.total_seconds():g} s")


class StreamCut(Passing):
    """The stream broke off, or became unreadable, before the endpoint ended it."""

    kind = FailureKind.STREAM_CUT
    run_goes_on = True

    def __init__(self, reason: str) -> None:
        super().__init__(f"the stream was cut: {quoted(reason)}")


class StreamStalled(Passing):
    """The connection stayed open and no frame came."""

    kind = FailureKind.STREAM_STALLED
    run_goes_on = True

    def __init__(self, limit: timedelta) -> None:
        super().__init__(f"no frame from the endpoint for {limit.total_seconds():g} s")


class StreamMixed(Passing):
    """The metadata names another question, thus it belongs to another run."""

    kind = FailureKind.STREAM_MIXED
    run_goes_on = True

    def __init__(self) -> None:
        super().__init__("the stream was ended by the metadata of another question")


class NoAnswer(Passing):
    """The endpoint ended the stream without an answer and without an error."""

    kind = FailureKind.NO_ANSWER
    run_goes_on = True

    def __init__(self) -> None:
        super().__init__("the endpoint ended the stream without an answer")


class EndpointError(Doubtful):
    """The endpoint reported an error with an unknown text."""

    kind = FailureKind.ENDPOINT_ERROR

    def __init__(self, quote: str = "") -> None:
        super().__init__("the endpoint reported an error", quote)


class EmptyResponse(Doubtful):
    """The endpoint answered with a status that has no body, thus without an answer."""

    kind = FailureKind.ENDPOINT_ERROR

    def __init__(self, http_status: int) -> None:
        super().__init__(f"HTTP {http_status} has no body", http_status=http_status)


class RunAborted(Quoting):
    """Somebody stopped the run at the endpoint."""

    kind = FailureKind.ENDPOINT_ERROR
    says = "the run was aborted at the endpoint"


class Unauthorized(Quoting):
    """The endpoint, or the model behind it, refused the key."""

    kind = FailureKind.UNAUTHORIZED
    says = "the key was refused"


class Forbidden(Quoting):
    """The endpoint does not let this caller use the flow."""

    kind = FailureKind.FORBIDDEN
    says = "the endpoint forbids this call"


class ChatflowNotFound(Lasting):
    """The endpoint has no such flow."""

    kind = FailureKind.CHATFLOW_NOT_FOUND

    def __init__(self, chatflow_id: str) -> None:
        super().__init__(f"the endpoint has no flow {chatflow_id}")


class BadRequest(Quoting):
    """The endpoint, or the model behind it, does not accept the request."""

    kind = FailureKind.BAD_REQUEST
    says = "the request was not accepted"


class Misconfigured(Lasting):
    """What answered is not the prediction endpoint."""

    kind = FailureKind.CONFIGURATION

    def __init__(self, reason: str, *, http_status: int | None = None) -> None:
        super().__init__(
            f"{quoted(reason)}: check AIMICROMIND_BASE_URL and AIMICROMIND_PREDICTION_PATH",
            http_status=http_status,
        )


class RedirectRefused(Lasting):
    """The endpoint redirects to another address, which must not get the key."""

    kind = FailureKind.REDIRECT_REFUSED

    def __init__(self, host: str, *, http_status: int) -> None:
        super().__init__(
            f"the endpoint redirects to {host}: set AIMICROMIND_BASE_URL to that address",
            http_status=http_status,
        )


class FrameTooLarge(Lasting):
    """One frame is longer than a message may be."""

    kind = FailureKind.TOO_LARGE

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"a frame is longer than AIMICROMIND_MAX_FRAME_BYTES ({limit_bytes} bytes)"
        )


class AnswerTooLarge(Lasting):
    """The text of the answer is longer than an `end` may be."""

    kind = FailureKind.TOO_LARGE

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"the answer is longer than AIMICROMIND_MAX_ANSWER_BYTES ({limit_bytes} bytes)"
        )


class RequestTooLarge(Lasting):
    """The endpoint does not take a request of this size."""

    kind = FailureKind.TOO_LARGE

    def __init__(self) -> None:
        super().__init__("the endpoint does not take a request of this size", http_status=413)
