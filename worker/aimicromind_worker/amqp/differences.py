"""Say how objects on the broker differ from those that the worker needs, and what to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["as expected", "missing", "different", "not compared", "left over"]

WAYS_OUT = (
    "either set AIMICROMIND_PREFIX to a new prefix; or stop the producers, let the workers that "
    "declared it run the queues empty, delete what differs, and start again"
)
"""The remedies for an object whose arguments the broker does not change."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The result of the comparison of one object.

    Attributes:
        name: The name of the exchange, queue or super stream.
        kind: The kind of the object.
        state: The result.
        detail: The broker's reason, or a sentence of ours; empty if there is nothing to add.
        ways_out: The remedies, if it is in the way.
    """

    name: str
    kind: Literal["exchange", "queue", "super stream"]
    state: State
    detail: str
    ways_out: str = WAYS_OUT

    @property
    def is_in_the_way(self) -> bool:
        """Whether the object must be deleted before the worker can declare what it needs."""
        return self.state in {"different", "left over"}


class TopologyDiffers(Exception):
    """Some objects on the broker are other ones than the worker needs."""

    def __init__(self, findings: Sequence[Difference]) -> None:
        """Write a sentence that names each of them.

        Args:
            findings: The objects that are different or left over.
        """
        each = "; ".join(f"{it.kind} {it.name} is {it.state} ({it.detail})" for it in findings)
        super().__init__(
            f"the broker has other objects than the worker needs: {each}. {ways_out(findings)}"
        )


def ways_out(findings: Sequence[Difference]) -> str:
    """Return a sentence that names the remedies for all objects in the way."""
    remedies = dict.fromkeys(it.ways_out for it in findings if it.is_in_the_way)
    return f"To go on, {'. Besides, '.join(remedies)}"
