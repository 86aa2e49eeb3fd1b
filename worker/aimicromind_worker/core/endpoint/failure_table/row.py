"""Match the text of an error: one row of the table, and the shapes in which texts tell a status.

Invariants:

- A pattern matches whole words in a shape that was seen, never a fragment of an ordinary sentence.
- Repetitions of words are bounded, because the texts come from outside.
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from aimicromind_worker.core.endpoint.errors import (
    BadRequest,
    EndpointError,
    EndpointUnavailable,
    Forbidden,
    RateLimited,
    RunAborted,
    Unauthorized,
)

SERVER: Final = "packages/server/src"
"""Folder of the server's public source with its API."""

COMPONENTS: Final = "packages/components"
"""Folder of the server's public source with nodes of flows and what they share."""

END: Final = r"\W{0,4}(?:troubleshooting url: \S{1,200}\s{0,3})?$"
"""End of a message of a word or two; LangChain adds a link to its help."""

# What servers and clients write before a message: "Error: predictionsServices.x - ".
_WRAPPER: Final = re.compile(
    r"\W{0,3}(?:\w{0,30}(?:error|exception)\b(?: [\w -]{1,60}?)?|\w{1,40}\.\w{1,40})"
    r"(?: fetching from \S{1,300})?\]?(?::| -)\s{1,3}",
    re.IGNORECASE,
)
_MOST_WRAPPERS: Final = 6
_NEVER: Final = r"(?!)"

Meaning = type[
    BadRequest
    | EndpointError
    | EndpointUnavailable
    | Forbidden
    | RateLimited
    | RunAborted
    | Unauthorized
]


class Row(msgspec.Struct, frozen=True):
    """Texts with one meaning.

    Attributes:
        meaning: Class of the failure.
        begins: Matches the beginning of the message, behind its wrappers.
        within: Matches anywhere in the text.
        examples: Texts that were seen, or are in the source. A `…` stands for any text.
        source: File of the server's public source, or the client that writes the text.
    """

    meaning: Meaning
    begins: re.Pattern[str]
    within: re.Pattern[str]
    examples: tuple[str, ...]
    source: str

    def fits(self, text: str, places: Sequence[int]) -> bool:
        """Return whether the text has this meaning.

        Args:
            text: Error text of the endpoint.
            places: Where its message may begin, from `beginnings`.
        """
        return any(self.begins.match(text, it) for it in places) or bool(self.within.search(text))


def beginnings(text: str) -> list[int]:
    """Return where the message of a text may begin: at 0, and behind each wrapper."""
    places = [0]
    while len(places) <= _MOST_WRAPPERS and (found := _WRAPPER.match(text, places[-1])):
        places.append(found.end())
    return places


def row(
    meaning: Meaning,
    source: str,
    examples: tuple[str, ...],
    begins: str = _NEVER,
    within: str = _NEVER,
) -> Row:
    """Build a row from its patterns; case does not count."""
    flags = re.IGNORECASE
    return Row(meaning, re.compile(begins, flags), re.compile(within, flags), examples, source)


def status_first(numbers: str, phrases: str) -> str:
    """Return a pattern for a status that begins a message, with a reason behind it.

    A reason begins with a capital, or is JSON. "401 results" and "429 USD" have none.

    Args:
        numbers: Alternatives of the status.
        phrases: Alternatives of its reason.
    """
    return (
        rf"\[?(?-i:(?:{numbers}) (?:[A-Z][a-z']|I |[{{\"'\[<(]|status code|\W*$))"
        rf"|\[?(?:{numbers})\b\W{{0,3}}(?:{phrases}|$)"
    )


def status(numbers: str, phrases: str) -> str:
    """Return a pattern for a status that is named as one, or followed by its own reason.

    "room 503" is neither.

    Args:
        numbers: Alternatives of the status.
        phrases: Alternatives of its reason.
    """
    named = (
        r"\bhttp(?:/[\d.]{1,3})?(?: error| status)?!?(?: status)?:? "
        r"|\b(?:status|(?:status|error|response)[ _-]?code)\"?(?:[:=]| of)? ?\"?|\"code\" ?: ?\"?"
    )
    return (
        rf"(?:{named})(?:{numbers})\b(?! \w{{1,20}}s\b)"
        rf"|\berror:? (?:{numbers})(?:[:;,.)\]]|$)"
        rf"|\b(?:{numbers})\b\W{{1,3}}(?:{phrases})"
    )
