"""What a failed call is: a tree whose branches say whether another call would help.

CallFailed
├── Passing      another call may well succeed
├── Doubtful     nobody knows: worth one more call, and only before output
└── Lasting      the same call would fail the same way
"""

from datetime import timedelta
from typing import ClassVar

from aimicromind_schemas import FailureKind

_LONGEST_QUOTE = 1000


def quoted(text: str) -> str:
    """Shorten what the endpoint said to what fits in a message and a header."""
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 1] + "…"


def is_from_gateway(status: int | None) -> bool:
    """Return whether a status speaks of the server behind a gateway, which is away.

    RFC 9110 15.6.3 to 15.6.5; 520 to 530 are those of Cloudflare (and 529 of overloaded sites),
    598 and 599 those of proxies that waited in vain.
    """
    return status is not None and (status in {502, 503, 504, 598, 599} or 520 <= status <= 530)  # noqa: PLR2004 - the statuses themselves


class CallFailed(Exception):
    """One call to the endpoint did not give an answer.

    Attributes:
        kind: The public kind, as `error` and `retry` events carry it.
        words: The sentence in our own words, without what the endpoint said.
        http_status: The status of the response, where there was one that mattered.
        retry_after: How long the endpoint asked to be left alone.
        request_sent: False where the endpoint cannot have seen the request.
        run_goes_on: True where the endpoint may finish the run all the same, and save its answer.
        run_is_over: True where the endpoint said itself that the run has failed.
        speaks_for_server: True where it may be the server that does not answer, not one flow.
        by_server: True where the server itself refused the key, not a model behind it.
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
            words: Our own.
            quote: What the endpoint said, if anything.
            http_status: The status of the response.
        """
        super().__init__(f"{words}: {quoted(quote)}" if quote else words)
        self.words = words
        self.http_status = http_status


class Passing(CallFailed):
    """Another call may well succeed."""


class Doubtful(CallFailed):
    """Nobody knows whether another call would succeed."""


class Lasting(CallFailed):
    """The same call would fail the same way."""


class Quoting(Lasting):
    """A lasting failure of which the endpoint told more."""

    says: ClassVar[str]

    def __init__(self, quote: str = "", *, http_status: int | None = None) -> None:
        super().__init__(self.says, quote, http_status=http_status)
