"""What runs tell of a job as spans; `otel` exports them."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol


class Span(Protocol):
    """A job, an attempt or a call while it lasts. Its methods cost microseconds and never fail."""

    @property
    def context(self) -> Mapping[str, str]:
        """Headers `traceparent` and `tracestate` for what this work causes; may be empty."""

    def attempt(self, number: int) -> "Span":
        """Begin an attempt of this job; it ends with the job, if not before."""

    def call(self, number: int) -> AbstractContextManager["Span"]:
        """Trace a call of this attempt, the job's so manieth, in the body."""

    def note(self, name: str, **facts: str | float) -> None:
        """Record what happens now; nothing that a job or an answer says."""

    def answered(self) -> None:
        """Record that an answer to this call begins."""

    def end(self, kind: str = "") -> None:
        """End this, and what has not ended in it; `kind` is empty for a success."""


class Tracer(Protocol):
    """Keeps spans. Its methods never fail."""

    def job(
        self, queue: str, job_id: str, chat_id: str, chatflow_id: str, trace: Mapping[str, str]
    ) -> AbstractContextManager[Span]:
        """Trace a job in the body.

        Args:
            queue: Where it was taken from.
            job_id: Its id.
            chat_id: Its chat, empty if unknown.
            chatflow_id: Its flow, empty if unknown.
            trace: The context that it came with, as headers; may be empty.
        """

    def close(self, within: timedelta) -> None:
        """Hand on what is kept, and block for so long at most."""


@dataclass(frozen=True, slots=True)
class PassedOn:
    """The span that nobody keeps: the context of the job goes on as it came."""

    context: Mapping[str, str]

    def attempt(self, number: int) -> "PassedOn":
        """Return what stands for the attempt, too."""
        return self

    def call(self, number: int) -> AbstractContextManager["PassedOn"]:
        """Return what stands for the call, too."""
        return nullcontext(self)

    def note(self, name: str, **facts: str | float) -> None:
        """Keep nothing."""

    def answered(self) -> None:
        """Keep nothing."""

    def end(self, kind: str = "") -> None:
        """Keep nothing."""


class Untraced:
    """No tracing."""

    def job(
        self, queue: str, job_id: str, chat_id: str, chatflow_id: str, trace: Mapping[str, str]
    ) -> AbstractContextManager[Span]:
        """Return what stands for the job."""
        return nullcontext(PassedOn(trace))

    def close(self, within: timedelta) -> None:
        """Do nothing."""


def trace_id(context: Mapping[str, str]) -> str | None:
    """Return the id of a trace by its headers, None without one."""
    traceparent = context.get("traceparent")
    return None if traceparent is None else traceparent.split("-")[1]
