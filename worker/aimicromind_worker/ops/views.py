"""Show the events of jobs: live in a terminal, as plain lines, or as JSON for programs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from aimicromind_schemas import (
    CalledToolsEvent,
    EndEvent,
    EndStatus,
    ErrorEvent,
    Event,
    Gap,
    RetryEvent,
    SourceDocumentsEvent,
    StartEvent,
    TokenEvent,
    UsedToolsEvent,
)
from aimicromind_worker.ops.terminal import safe, safe_line, say_json

_LONGEST_TEXT = 600
_COLOUR = {
    "waiting": "dim",
    "running": "cyan",
    "retrying": "yellow",
    EndStatus.COMPLETED: "green",
}


class View(Protocol):
    """Shows events as they arrive."""

    def show(self, item: Event | Gap) -> None:
        """Show the next event, or the gap before it."""


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
    notes: list[str] = field(default_factory=list)
    end: EndEvent | None = None

    def take(self, event: Event | Gap) -> str | None:
        """Apply the next event.

        Returns:
            A line to show for it, or None.
        """
        if isinstance(event, Gap):
            return self._noted(f"{len(event.missing)} events are missing here")
        if event.attempt < self.attempt or self.end is not None:
            return None
        if event.attempt > self.attempt:
            self.attempt = event.attempt
            self.text = ""
        return self._noted(self._note(event))

    def _noted(self, note: str | None) -> str | None:
        if note is None:
            return None
        note = safe_line(note)
        self.notes.append(note)
        return note

    def _note(self, event: Event) -> str | None:
        match event:
            case StartEvent():
                self.status = "running"
                return f"attempt {event.attempt} started"
            case TokenEvent():
                self.text += event.data
                return None
            case CalledToolsEvent() | UsedToolsEvent():
                names = [tool.tool for tool in event.data if tool is not None]
                return f"{event.event}: {', '.join(map(str, names))}" if names else None
            case SourceDocumentsEvent():
                return f"sourceDocuments: {len(event.data)}"
            case RetryEvent():
                self.status = "retrying"
                data = event.data
                return f"retry in {data.delay_seconds:g} s ({data.kind}): {data.message}"
            case ErrorEvent():
                return f"error ({event.data.kind}): {event.data.message}"
            case EndEvent():
                self.end = event
                self.status = event.data.status
                self.text = event.data.text
                return _ending(event)
            case _:
                return None


class Jobs:
    """The jobs that are shown.

    Attributes:
        states: State of each job, by jobId.
    """

    def __init__(self, titles: Mapping[str, str] | None) -> None:
        """Choose the jobs to show.

        Args:
            titles: Title by jobId, for these jobs only; None shows all jobs.
        """
        named = (titles or {}).items()
        self.states = {job_id: JobView(safe_line(title)) for job_id, title in named}
        self._are_all = titles is not None

    def of(self, item: Event | Gap) -> JobView | None:
        """Return the state of an event's job; None if the job is not shown."""
        if item.job_id not in self.states and not self._are_all:
            self.states[item.job_id] = JobView(safe_line(f"job {item.job_id}"))
        return self.states.get(item.job_id)


class JsonView:
    """Writes each event as one line of JSON, as it was published."""

    def show(self, item: Event | Gap) -> None:
        """Write the next event; a gap has the event name `gap`."""
        wire = _gap(item) if isinstance(item, Gap) else item.wire()
        say_json(wire)


class PlainView:
    """Writes one line for each step of a job, and the whole answer at its end."""

    def __init__(self, console: Console, titles: Mapping[str, str] | None) -> None:
        self._console = console
        self._jobs = Jobs(titles)

    def show(self, item: Event | Gap) -> None:
        """Show the next event, if its job is shown."""
        job = self._jobs.of(item)
        if job is None:
            return
        note = job.take(item)
        if note is not None:
            self._line(f"{job.title}: {note}")
        if isinstance(item, EndEvent) and job.text:
            self._line(f"{job.title}: {safe(job.text)}")

    def _line(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)


class LiveView:
    """Shows a panel for each job, with the answer as it grows. Use it with `with`.

    Panels of ended jobs scroll up, because a terminal has few lines for those that run.
    """

    def __init__(self, console: Console, titles: Mapping[str, str] | None) -> None:
        self._jobs = Jobs(titles)
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=12)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        self._live.refresh()
        self._live.__exit__(None, None, None)

    def show(self, item: Event | Gap) -> None:
        """Show the next event, if its job is shown."""
        job = self._jobs.of(item)
        if job is None or job.end is not None:
            return
        job.take(item)
        if job.end is not None:
            self._live.console.print(_panel(job))

    def _render(self) -> RenderableType:
        return Group(*(_panel(job) for job in self._jobs.states.values() if job.end is None))


def _panel(job: JobView) -> Panel:
    colour = _COLOUR.get(job.status, "red")
    shown = job.text if len(job.text) <= _LONGEST_TEXT else "…" + job.text[-_LONGEST_TEXT:]
    lines: Iterable[Text] = (Text(note, style="dim") for note in job.notes)
    body = Group(*lines, Text(safe(shown))) if shown else Group(*lines)
    heading = Text.assemble((job.title, "bold"), " ", (job.status, colour))
    return Panel(body, title=heading, title_align="left", border_style=colour)


def _ending(event: EndEvent) -> str:
    data = event.data
    return (
        f"end: {data.status}, {data.attempts} attempt(s), {data.calls} call(s), "
        f"{data.events} events, {data.duration_seconds:.2f} s"
    )


def _gap(gap: Gap) -> dict[str, object]:
    return {
        "event": "gap",
        "jobId": gap.job_id,
        "chatId": gap.chat_id,
        "attempt": gap.attempt,
        "missing": list(gap.missing),
    }
