"""What is known of a run: jobs asked for, calls at the endpoint, spans of time, and violations.

All times are seconds of `time.monotonic`, which the processes of one machine share.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from typing_extensions import override

Rule = Literal["I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "form"]
"""The invariants of docs/faults.md; `form` is what every single message must be like."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that must not be."""

    rule: Rule
    what: str
    job_id: str = ""
    attempt: int | None = None
    seq: int | None = None
    where: str = ""

    @override
    def __str__(self) -> str:
        place = [
            f"{name} {value}"
            for name, value in (("attempt", self.attempt), ("seq", self.seq))
            if value is not None
        ]
        words = [self.rule, self.job_id, *place, f"at {self.where}" if self.where else ""]
        return f"{' '.join(word for word in words if word)}: {self.what}"


class Broken(AssertionError):
    """A run broke its promises.

    Attributes:
        violations: Every one.
    """

    _SHOWN = 40

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = violations
        shown = "\n".join(map(str, violations[: self._SHOWN]))
        super().__init__(f"{len(violations)} violations\n{shown}")


@dataclass(slots=True)
class Asked:
    """A job as its producer put it on the queue.

    Attributes:
        confirmed_at: When the broker took it, None if it never said so.
        flow: As events name it; empty for a job that cannot be read.
        after: The job before it in its chat, if it names one.
    """

    job_id: str
    chat_id: str
    flow: str = "flow"
    confirmed_at: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    correlation_id: str | None = None
    traceparent: str | None = None
    after: str = ""


@dataclass(frozen=True, slots=True)
class EndpointCall:
    """One prediction as the endpoint saw it.

    Attributes:
        chat_id: The endpoint's chatId, which no other call may have.
        session_id: The conversation, `overrideConfig.sessionId`.
        ended: When its answer was over or its client gone, None if that is not known.
        says: The tokens of its whole answer, None where nobody knows.
    """

    job_id: str
    chat_id: str
    session_id: str
    began: float
    ended: float | None
    says: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which something was so."""

    since: float
    until: float = math.inf

    def covers(self, at: float) -> bool:
        return self.since <= at <= self.until

    def meets(self, since: float, until: float) -> bool:
        return self.since <= until and since <= self.until


def covered(at: float, spans: Iterable[Span]) -> bool:
    return any(span.covers(at) for span in spans)


def members(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
