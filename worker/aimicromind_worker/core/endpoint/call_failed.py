"""The base classes of failed calls, which decide whether another call is worth making.

CallFailed
├── Passing      another call may succeed
├── Doubtful     unknown: worth one more call, and only before output
└── Lasting      the same call would fail in the same way
"""

from datetime import timedelta
from typing import ClassVar

from aimicromind_schemas import FailureKind

_LONGEST_QUOTE = 1000


def quoted(text: str) -> str:
    """Return a text of the endpoint as one line of at most 1,000 characters."""
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 1] + "…"


def is_from_gateway(status: int | None) -> bool:
    """Return whether a status means that a gateway does not reach the server behind it.

    RFC 9110 15.6.3 to 15.6.5; 520 to 530 are Cloudflare's (529: an overloaded site), 598 and 599
    are timeouts of proxies.
    """
    return status is not None and (status in {502, 503, 504, 598, 599} or 520 <= status <= 530)  # noqa: PLR2004 - the statuses themselves


class CallFailed(Exception):
    """One call to the endpoint gave no answer.

    Attributes:
        kind: Public kind, which `error` and `retry` events carry.
        words: The sentence without the text of the endpoint.
        http_status: Status of the response, if it matters.
        retry_after: Wait that the endpoint asked for.
        request_sent: Whether the endpoint may have received the request.
        run_goes_on: Whether the endpoint may finish the run nevertheless, and save its answer.
        run_is_over: Whether the endpoint itself said that the run has failed.
        speaks_for_server: Whether the failure may be one of the server, not of one flow.
        by_server: Whether the server itself refused the key, not a model behind it.
    """

    kind: ClassVar[FailureKind]
    retry_after: timedelta | None = None
    request_sent: bool = True
    run_goes_on: bool = False
    run_is_over: bool = False
    speaks_for_server: bool = False
    by_server: bool = False

    def __init__(self, words: str, quote: str = "", *, http_status: int | None = None) -> None:
        """Write the sentence.

        Args:
            words: What failed, without any text of the endpoint.
            quote: Text of the endpoint, if any.
            http_status: Status of the response.
        """
        super().__init__(f"{words}: {quoted(quote)}" if quote else words)
        self.words = words
        self.http_status = http_status


class Passing(CallFailed):
    """Another call may succeed."""


class Doubtful(CallFailed):
    """It is unknown whether another call would succeed."""


class Lasting(CallFailed):
    """The same call would fail in the same way."""


class Quoting(Lasting):
    """A lasting failure that the endpoint describes in a text."""

    says: ClassVar[str]

    def __init__(self, quote: str = "", *, http_status: int | None = None) -> None:
        super().__init__(self.says, quote, http_status=http_status)
