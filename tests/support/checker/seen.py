"""What a job showed to a consumer, for tests that look at it closer than the checker."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Self

from tests.support.consumer import Message


@dataclass(frozen=True, slots=True)
class Seen:
    """What a job showed.

    Attributes:
        attempts: The events of each attempt, by its number, in order, without repeats.
        end: The data of its `end`.
    """

    attempts: dict[int, list[Message]]
    end: dict[str, Any]

    @classmethod
    def of(cls, came: Sequence[Message]) -> Self:
        """Take what came of a job that has ended."""
        first: dict[str, Message] = {}
        for message in came:
            first.setdefault(message.properties["message_id"], message)
        attempts: dict[int, list[Message]] = {}
        for message in first.values():
            attempts.setdefault(message.attempt, []).append(message)
        (end,) = [message for message in first.values() if message.name == "end"]
        return cls(attempts, dict(end.data))

    def shown(self, attempt: int) -> list[str]:
        """Give the names of an attempt's events, of tokens in a row only the first."""
        names = [message.name for message in self.attempts[attempt]]
        return [name for name, again in groupby(names) for _ in ([0] if name == "token" else again)]

    def only(self, name: str) -> Any:  # noqa: ANN401 - an event holds anything
        """Give the data of the one event of this name."""
        (data,) = [
            message.data
            for messages in self.attempts.values()
            for message in messages
            if message.name == name
        ]
        return data
