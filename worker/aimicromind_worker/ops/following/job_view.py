"""State of one job as its events tell it, and the lines that show it to people."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from aimicromind_schemas import (
    CalledToolsEvent,
    EndEvent,
    ErrorEvent,
    Event,
    Gap,
    MetadataEvent,
    RetryEvent,
    SourceDocumentsEvent,
    StartEvent,
    TokenEvent,
    UsedTool,
    UsedToolsEvent,
)
from aimicromind_worker.ops.terminal import counted, safe_line

# Longer values of tools, and longer questions, are folded: `--json` shows them whole.
_FOLDED_TO = 80
_QUESTION_FOLDED_TO = 200


@dataclass
class TokenTimes:
    """When the tokens of an attempt were published.

    Attributes:
        count: The number of tokens.
        first: The time of the first one; None before it.
        last: The time of the latest one.
    """

    count: int = 0
    first: datetime | None = None
    last: datetime | None = None

    def note(self, at: datetime) -> None:
        """Count a token."""
        self.count += 1
        self.first = self.first or at
        self.last = at

    @property
    def per_second(self) -> float | None:
        """Tokens a second between the first one and the last one; None where nothing is known."""
        if self.first is None or self.last is None or self.last <= self.first:
            return None
        return (self.count - 1) / (self.last - self.first).total_seconds()


@dataclass
class JobView:
    """State of one job, as its events tell it. Only `take` changes it.

    It applies the rule for consumers: the highest attempt wins, its start replaces what was shown,
    and the first end ends the job.
    """

    title: str
    status: str = "waiting"
    attempt: int = 0
    text: str = ""
    question: str = ""
    notes: list[str] = field(default_factory=list)
    tokens: TokenTimes = field(default_factory=TokenTimes)
    end: EndEvent | None = None
    ending: list[str] = field(default_factory=list)

    def take(self, event: Event | Gap) -> list[str]:
        """Apply the next event.

        Returns:
            The lines to show for it.
        """
        if isinstance(event, Gap):
            return self._noted([f"{len(event.missing)} events are missing here"], None)
        if event.attempt < self.attempt or self.end is not None:
            return []
        if event.attempt > self.attempt:
            self.attempt = event.attempt
            self.text, self.tokens = "", TokenTimes()
        if isinstance(event, MetadataEvent) and event.data.question and not self.question:
            self.question = folded(event.data.question, _QUESTION_FOLDED_TO)
            return [f"question: {self.question}"]
        return self._noted(self._notes(event), event.time)

    @property
    def speed(self) -> str:
        """Number of tokens, and tokens a second where that is known; empty without a token."""
        if not self.tokens.count:
            return ""
        speed = self.tokens.per_second
        rate = f", {speed:.1f} a second" if speed is not None else ""
        return f"{counted(self.tokens.count, 'token')}{rate}"

    def _noted(self, notes: Iterable[str], at: datetime | None) -> list[str]:
        time = f"{at.astimezone(UTC):%H:%M:%S} " if at else ""
        lines = [time + safe_line(note) for note in notes]
        if self.end is None:
            self.notes += lines
        else:
            self.ending = lines
        return lines

    def _notes(self, event: Event) -> Iterable[str]:
        match event:
            case StartEvent():
                self.status = "running"
                return [f"attempt {event.attempt} started"]
            case TokenEvent():
                self.text += event.data
                self.tokens.note(event.time)
                return []
            case CalledToolsEvent() | UsedToolsEvent():
                return [f"{event.event}: {_tool(it)}" for it in event.data if it is not None]
            case SourceDocumentsEvent():
                return [f"sourceDocuments: {len(event.data)}"]
            case RetryEvent():
                self.status = "retrying"
                data = event.data
                return [f"retry in {data.delay_seconds:g} s ({data.kind}): {data.message}"]
            case ErrorEvent():
                return [f"error ({event.data.kind}): {event.data.message}"]
            case EndEvent():
                return self._ended(event)
            case _:
                return []

    def _ended(self, event: EndEvent) -> list[str]:
        self.end = event
        self.status = event.data.status
        self.text = event.data.text
        tokens = ", ".join(self._token_facts(event))
        return [*([tokens] if tokens else []), ", ".join(_ending(event))]

    def _token_facts(self, event: EndEvent) -> Iterator[str]:
        first = self.tokens.first
        if first is not None:
            began = event.time - timedelta(seconds=event.data.duration_seconds)
            yield self.speed
            yield f"the first after {max(0.0, (first - began).total_seconds()):.2f} s"


def _ending(event: EndEvent) -> Iterator[str]:
    data = event.data
    yield f"end: {data.status}, {data.attempts} attempt(s), {data.calls} call(s)"
    yield f"{data.events} events, {data.duration_seconds:.2f} s"
    if data.waits_for:
        yield f"waits for: {data.waits_for}"


def folded(text: str, most: int = _FOLDED_TO) -> str:
    """Return a text as one line, cut to a number of characters, with its length."""
    line = safe_line(text)
    return line if len(line) <= most else f"{line[:most]}… ({len(text):,} characters)"


def _tool(tool: UsedTool) -> str:
    """Return name, input and output of a tool, folded."""
    given, result = _text(tool.tool_input), _text(tool.tool_output)
    return (
        str(tool.tool)
        + (f" {folded(given)}" if given else "")
        + (f" → {folded(result)}" if result else "")
    )


def _text(value: object) -> str:
    """Return a value as JSON, a text as it is, and nothing for none."""
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return "(a value that cannot be shown)"
