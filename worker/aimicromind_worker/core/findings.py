"""What commands report: findings with their remedies, and failures in one sentence."""

from collections.abc import Callable, Iterator
from enum import StrEnum

import msgspec


class NotAchieved(Exception):
    """A command did not achieve what it should have; the text says why. The exit code is 1."""


class State(StrEnum):
    """How it stands with one thing."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    NOT_CHECKED = "not checked"


class Finding(msgspec.Struct, frozen=True):
    """What was found about one thing.

    Attributes:
        about: What was looked at.
        state: How it stands.
        detail: What was seen.
        remedy: What to do; empty where nothing is to be done.
    """

    about: str
    state: State
    detail: str
    remedy: str = ""


_LIMITS = ("max-length", "max-length-bytes", "message-ttl", "expires", "max-age")
_RECIPES = "docs/queues.md has safe arguments"


def of_subscriber(
    name: str, kind: str, *, passing: bool, messages: int, limit: Callable[[str], object]
) -> Iterator[Finding]:
    """Yield what is unsafe about a queue that events go to; one finding at least.

    Args:
        name: The queue.
        kind: Its type.
        passing: Whether it goes with its consumer.
        messages: How many wait in it.
        limit: Gives a limit of the queue, None where it has none.
    """
    about, begun = f"queue {name}", False
    if kind != "stream" and str(limit("overflow") or "").startswith("reject-publish"):
        begun = True
        yield Finding(
            about,
            State.PROBLEM,
            "it refuses events when it is full, which holds up their chats for two seconds each",
            f"declare it without x-overflow=reject-publish; {_RECIPES}",
        )
    if not passing and not any(limit(each) is not None for each in _LIMITS):
        begun = True
        yield Finding(
            about,
            State.WARNING,
            f"it has no limit of length or age ({messages} events now): without a consumer it "
            "fills the broker's memory or disk, and that stops all workers",
            f"give it x-max-length-bytes or x-message-ttl; {_RECIPES}",
        )
    if not begun:
        yield Finding(about, State.OK, f"{kind}, {messages} events")
