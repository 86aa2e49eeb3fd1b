"""Findings with remedies, which commands print, and the failure that ends a command."""

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum

import msgspec


class NotAchieved(Exception):
    """A command failed, for the reason in the text. Its exit code is 1."""


class State(StrEnum):
    """Result of one check."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    NOT_CHECKED = "not checked"


class Finding(msgspec.Struct, frozen=True):
    """Result of one check, with its reason.

    Attributes:
        about: Name of the object that was checked.
        state: Result.
        detail: Facts behind the result.
        remedy: What the operator should do; empty for nothing.
    """

    about: str
    state: State
    detail: str
    remedy: str = ""


_LIMITS = ("max-length", "max-length-bytes", "message-ttl", "expires", "max-age")
# A majority of three survives the loss of one node.
_MEMBERS = 3
_RECIPES = "docs/queues.md has safe arguments"


def of_subscriber(
    name: str, kind: str, *, passing: bool, messages: int, limit: Callable[[str], object]
) -> Iterator[Finding]:
    """Yield what is unsafe about a queue that is bound to events; one finding at least.

    Args:
        name: The queue.
        kind: Its type.
        passing: Whether the broker deletes it with its consumer.
        messages: Number of messages in it.
        limit: Returns a limit of the queue by its name, None if unset.
    """
    about, begun = f"queue {name}", False
    if kind != "stream" and str(limit("overflow") or "").startswith("reject-publish"):
        begun = True
        yield Finding(
            about,
            State.PROBLEM,
            "it nacks events when it is full, which delays their chats by up to 2 s each",
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


def of_replicas(nodes: int, stored: Sequence[tuple[str, str, int]]) -> Iterator[Finding]:
    """Yield what is wrong with where queues and streams are stored; nothing on a single node.

    Args:
        nodes: The number of nodes of the cluster.
        stored: The name, the leader's node and the number of members of each.
    """
    if nodes == 1 or not stored:
        return
    wanted = min(nodes, _MEMBERS)
    few = [name for name, _, members in stored if members < wanted]
    if few:
        detail = f"fewer than {wanted} members: {', '.join(sorted(few))}"
        remedy = "add members with rabbitmq-queues grow, or rabbitmq-streams add_replica"
        yield Finding("replicas", State.WARNING, detail, remedy)
    leaders = {leader for _, leader, _ in stored}
    if len(leaders) == 1 and len(stored) > 1:
        detail = f"all {len(stored)} leaders are on {leaders.pop()}, which does all the work"
        remedy = "run rabbitmq-queues rebalance all; for streams, restart their leaders"
        yield Finding("leaders", State.WARNING, detail, remedy)
    if not few and len(leaders) > 1:
        yield Finding("replicas", State.OK, f"{wanted} members each, on {nodes} nodes")
