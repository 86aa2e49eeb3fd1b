"""Put the status of an installation into lines, for a terminal of some width or a pipe.

The first line says the most important by itself. Text from outside is escaped here.
"""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from aimicromind_schemas import WorkerReport
from aimicromind_worker.ops.status.facts import DeadLetters, Jobs, Reach, Status
from aimicromind_worker.ops.terminal import safe_line

_HEADINGS: Final = ("worker", "version", "slots", "running", "waiting", "up")
_GAP: Final = "  "
_LABEL_COLUMNS: Final = 20
_COUNT_COLUMNS: Final = 7
_DETAIL_COLUMN: Final = _LABEL_COLUMNS + _COUNT_COLUMNS + len(_GAP)
_SHORTEST_NAME: Final = 12
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


class Line(NamedTuple):
    """One line, or more where it is wrapped.

    Attributes:
        text: The escaped text.
        colour: Its colour on a terminal; None: the usual one.
    """

    text: str
    colour: str | None = None


def lines_of(status: Status, columns: int | None) -> list[Line]:
    """Return the lines of a status.

    Args:
        status: What was found.
        columns: The width of the terminal; None: each line stays whole, as for a pipe.
    """
    summary = Line(_in(columns, summary_of(status), 0), _colour_of(status))
    parts = [[summary], _workers(status, columns), _jobs(status, columns), _rest(status, columns)]
    if status.unknown:
        unknown = (_plain(f"not known: {reason}") for reason in status.unknown)
        parts.append([Line(_in(columns, text, 2), "cyan") for text in unknown])
    lines: list[Line] = []
    for part in parts:
        lines += [Line(""), *part] if lines and part else part
    return lines


def summary_of(status: Status) -> str:
    """Return the status in one sentence."""
    jobs = status.jobs
    dead = status.dead_letters.total if status.dead_letters is not None else 0
    counts = [f"{jobs.ready:,} ready", f"{jobs.running:,} running"]
    others = (
        (jobs.waiting_for_chat, "waiting for a chat"),
        (jobs.waiting_otherwise, "waiting for a slot or the endpoint"),
        (jobs.all_delayed, "delayed"),
        (dead, "dead"),
    )
    counts += [f"{count:,} {what}" for count, what in others if count]
    told = ", ".join(counts)
    return f"{_takers(status.workers, status.silent_consumers)}: {told}"


def span(seconds: float) -> str:
    """Return a length of time in its two largest units, such as `2 h 4 min`."""
    left = int(seconds)
    if left < 1:
        return "0 s"
    parts: list[str] = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def _takers(workers: Sequence[WorkerReport], silent: int) -> str:
    if silent and not workers:
        return (
            "1 consumer takes jobs and is silent"
            if silent == 1
            else (f"{silent} consumers take jobs and are silent")
        )
    ready = sum(it.ready for it in workers)
    told = f"{ready} workers take jobs" if ready > 1 else f"{ready or 'no'} worker takes jobs"
    others = [(len(workers) - ready, "not ready"), (silent, "silent")]
    more = ", ".join(f"{count} {what}" for count, what in others if count)
    return f"{told} ({more})" if more else told


def _colour_of(status: Status) -> str | None:
    if not any(it.ready for it in status.workers):
        return "yellow" if status.silent_consumers else "red"
    return "yellow" if status.silent_consumers else "green"


def _workers(status: Status, columns: int | None) -> list[Line]:
    lines: list[Line] = []
    if status.workers:
        rows = [_row(report) for report in status.workers]
        lines += _table(rows, status.workers, columns)
    if status.silent_consumers:
        count = status.silent_consumers
        told = "1 consumer" if count == 1 else f"{count} consumers"
        verb = "does" if count == 1 else "do"
        text = (
            f"{told} of the queue of jobs {verb} not answer: a worker of an earlier version, one "
            "that hangs, or another program"
        )
        lines.append(Line(_in(columns, text, 2), "yellow"))
    return lines


def _row(report: WorkerReport) -> tuple[str, ...]:
    name = _plain(f"{report.host}/{report.pid}")
    counts = (report.slots, report.running, report.waiting)
    return (name, _plain(report.version), *map(str, counts), span(report.up_seconds))


def _table(
    rows: Sequence[tuple[str, ...]], reports: Sequence[WorkerReport], columns: int | None
) -> Iterator[Line]:
    """Yield a row for each worker, with its obstacles below it."""
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    if columns is not None:
        # Numbers stay whole. A name is cut where the rest leaves no room for it.
        others = sum(widths[2:]) + len(_GAP) * (len(widths) - 1)
        widths[1] = min(widths[1], max(len(_HEADINGS[1]), columns - others - _SHORTEST_NAME))
        room = columns - others - widths[1]
        widths[0] = min(widths[0], max(room, _SHORTEST_NAME))
    yield Line(_cells(_HEADINGS, widths))
    for row, report in zip(rows, reports, strict=True):
        yield Line(_cells(row, widths))
        if not report.ready:
            why = "; ".join(report.obstacles) or "it does not say why"
            yield Line(_in(columns, _plain(f"  takes no jobs: {why}"), 4), "yellow")


def _plain(text: str) -> str:
    """Return a text from outside as one line without tabs, whose width is not known."""
    return safe_line(text.replace("\t", " "))


def _cells(row: Iterable[str], widths: Sequence[int]) -> str:
    cells = []
    for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
        shown = cell if len(cell) <= width else f"{cell[: width - 1]}…"
        is_count = 2 <= index < len(widths) - 1  # noqa: PLR2004 - after name and version
        cells.append(shown.rjust(width) if is_count else shown.ljust(width))
    return _GAP.join(cells).rstrip()


def _jobs(status: Status, columns: int | None) -> list[Line]:
    jobs = status.jobs
    rows = [
        ("ready", jobs.ready, "in the queue; age not known without taking one"),
        ("running", jobs.running, _oldest(jobs)),
        ("waiting for a chat", jobs.waiting_for_chat, ""),
        ("waiting otherwise", jobs.waiting_otherwise, "for a slot or the endpoint"),
        ("delayed", jobs.all_delayed, _delays(jobs)),
    ]
    if jobs.dead_lettered_by_broker:
        told = "dead-lettered by the broker; a worker ends them"
        rows.append(("to be ended", jobs.dead_lettered_by_broker, told))
    if status.dead_letters is not None:
        rows.append(("dead letters", status.dead_letters.total, _kinds(status.dead_letters)))
    return [
        Line(_in(columns, f"{label:<{_LABEL_COLUMNS}}{count:>{_COUNT_COLUMNS},}{_GAP}{detail}"))
        for label, count, detail in rows
    ]


def _oldest(jobs: Jobs) -> str:
    if jobs.oldest_held_seconds is None:
        return ""
    return f"oldest in a worker: submitted {span(jobs.oldest_held_seconds)} ago"


def _delays(jobs: Jobs) -> str:
    delays = ((count, delay_s) for delay_s, count in sorted(jobs.delayed.items()) if count)
    return ", ".join(f"{count:,} for {span(delay_s)}" for count, delay_s in delays)


def _kinds(dead: DeadLetters) -> str:
    kinds = ", ".join(f"{safe_line(kind)} {count:,}" for kind, count in dead.by_kind.items())
    if dead.read < dead.total and kinds:
        return f"of the oldest {dead.read:,}: {kinds}"
    return kinds


def _rest(status: Status, columns: int | None) -> list[Line]:
    rows = []
    for name, reach in (("event log", status.event_log), ("journal", status.journal)):
        if reach is not None:
            rows.append((name, _reach(reach, status.time)))
    done = status.throughput
    if done is not None:
        told = f"{done.jobs_per_second:,.1f} jobs ended/s, {done.events_per_second:,.0f} events/s"
        rows.append(("throughput", f"{told}, over {done.over_seconds:.1f} s"))
    broker = status.broker
    if broker is not None:
        told = (
            f"{broker.unacknowledged:,} jobs unacknowledged, "
            f"{broker.submitted_per_second:,.1f}/s in, {broker.acknowledged_per_second:,.1f}/s out"
        )
        alarms = ", ".join(broker.alarms)
        rows.append(("broker", f"{told}; alarms: {safe_line(alarms)}" if alarms else told))
    indent = _LABEL_COLUMNS
    return [Line(_in(columns, f"{name:<{indent}}{told}", indent)) for name, told in rows]


def _reach(reach: Reach, now: datetime) -> str:
    if reach.oldest is None:
        return "shows no message: it is empty"
    when = f"{reach.oldest.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    back = f"back to {when}, {span((now - reach.oldest).total_seconds())} ago"
    if reach.complete_since is None:
        return f"{back}; nothing removed"
    if reach.complete_since <= reach.oldest:
        return back
    whole_s = (now - reach.complete_since).total_seconds()
    return f"{back}; complete for the last {span(whole_s)}"


def _in(columns: int | None, text: str, indent: int = _DETAIL_COLUMN) -> str:
    """Break a line between words for a terminal, with its further lines indented."""
    if columns is None or len(text) <= columns:
        return text.rstrip()
    lines = textwrap.wrap(
        text,
        max(columns, indent + _SHORTEST_NAME),
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    )
    return "\n".join(lines)
