"""Show the events of jobs: live in a terminal, as plain lines, or as JSON for programs."""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from aimicromind_schemas import EndEvent, EndStatus, Event, Gap
from aimicromind_worker.ops.following.job_view import JobView
from aimicromind_worker.ops.terminal import safe, safe_line, say_json

# A running job has this much of the terminal: what is longer is shown at its end.
_LONGEST_TEXT = 600
_MOST_NOTES = 6
# A terminal echoes Ctrl-C as ^C. At the end of a full line that would move the panel down.
_ECHO_COLUMNS = 3
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

    def tell(self, note: str) -> None:
        """Show where the next events come from."""


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

    def tell(self, note: str) -> None:
        """Write nothing: programs read the time of each event."""


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
        notes = job.take(item)
        if isinstance(item, EndEvent) and notes and job.text:
            self._line(f"{job.title}: answer: {safe(job.text)}")
        for note in notes:
            self._line(f"{job.title}: {note}")

    def tell(self, note: str) -> None:
        """Write where the next events come from."""
        self._line(f"-- {safe_line(note)}")

    def _line(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)


class LiveView:
    """Shows a panel for each running job, with the answer as it grows. Use it with `with`.

    Ended jobs are written above, with the whole answer. At the end no panel is left.
    """

    def __init__(
        self,
        console: Console,
        titles: Mapping[str, str] | None,
        progress: Callable[[], float] = lambda: 1.0,
    ) -> None:
        """Prepare; nothing is shown yet.

        Args:
            console: The terminal.
            titles: See `Jobs`.
            progress: Returns how much of the earlier events is read, from 0 to 1.
        """
        self._jobs = Jobs(titles)
        self._progress = progress
        self._console = console
        self._live = Live(
            console=console, get_renderable=self._render, refresh_per_second=12, transient=True
        )

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        self._live.__exit__(None, None, None)
        for job in self._running():
            self._write(job)

    def show(self, item: Event | Gap) -> None:
        """Show the next event, if its job is shown."""
        job = self._jobs.of(item)
        if job is None or job.end is not None:
            return
        job.take(item)
        if job.end is not None:
            self._write(job)

    def tell(self, note: str) -> None:
        """Write where the next events come from."""
        self._console.print(Text(f"── {safe_line(note)}", style="dim"))

    def _running(self) -> list[JobView]:
        return [job for job in self._jobs.states.values() if job.end is None]

    def _render(self) -> RenderableType:
        width = self._console.width - _ECHO_COLUMNS
        panels = [_panel(job, width) for job in self._running()]
        progress = self._progress()
        # First, because what does not fit into the terminal is cut at its end.
        told = [Text(f"reading the event log: {progress:.0%}", style="dim")] if progress < 1 else []
        return Group(*told, *panels)

    def _write(self, job: JobView) -> None:
        """Write a job as text that stays, with the whole answer."""
        console = self._console
        console.print(_heading(job))
        question = [f"question: {job.question}"] if job.question else []
        console.print(_indented([*question, *job.notes]))
        if job.text:
            console.print(Text(safe(job.text)))
        console.print(_indented(job.ending))


def _heading(job: JobView) -> Text:
    return Text.assemble((job.title, "bold"), " ", (job.status, _COLOUR.get(job.status, "red")))


def _indented(lines: Iterable[str]) -> RenderableType:
    return Padding(Group(*(Text(line, style="dim") for line in lines)), (0, 0, 0, 2))


def _panel(job: JobView, width: int) -> RenderableType:
    shown = job.text if len(job.text) <= _LONGEST_TEXT else "…" + job.text[-_LONGEST_TEXT:]
    notes = [Text(note, style="dim", no_wrap=True, overflow="ellipsis") for note in job.notes]
    parts = notes[-_MOST_NOTES:]
    if shown:
        parts.append(Text(safe(shown)))
    colour = _COLOUR.get(job.status, "red")
    return Panel(
        Group(*parts),
        title=_heading(job),
        title_align="left",
        subtitle=Text(job.speed, style="dim"),
        subtitle_align="right",
        border_style=colour,
        width=width,
    )


def _gap(gap: Gap) -> dict[str, object]:
    return {
        "event": "gap",
        "jobId": gap.job_id,
        "chatId": gap.chat_id,
        "attempt": gap.attempt,
        "missing": list(gap.missing),
    }
