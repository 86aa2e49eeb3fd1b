"""Find the jobs that met a window which docs/guarantees.md leaves, by the logs of the workers.

- A copy of an ended job ran again, because its worker still read the journal after its start.
- A worker was lost between the record of an `end` and the `end`. The job after it may have begun
  before the repeat.
- A worker was lost with a job that had shown nothing, and a copy began before anybody knew.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BEGINS_TO_READ = {"health.listening", "broker.lost"}


@dataclass
class Windows:
    """The ids of the jobs that met one.

    Attributes:
        ran_again: Jobs that ran again on a worker that still read the journal.
        unpublished: Jobs whose `end` was recorded, and not published.
        unknown: Jobs of which a copy began as the first after a lost worker had begun another.
    """

    ran_again: set[str] = field(default_factory=set)
    unpublished: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of a log.

    Attributes:
        at: An ISO 8601 time.
        worker: The log's name.
        reads: Whether the worker read the journal then.
        is_last: Whether the log ends here.
    """

    at: str
    worker: str
    fact: dict[str, Any]
    reads: bool
    is_last: bool


def windows_of(folder: Path) -> Windows:
    """Read the logs of all workers in a folder."""
    found, ended = Windows(), set[str]()
    losses: Counter[str] = Counter()
    # The worker that began a job, and how often it had been lost by then.
    begun: dict[str, tuple[str, int]] = {}
    lines = (line for log in folder.glob("*.log") for line in _lines(log))
    for line in sorted(lines, key=lambda it: it.at):
        job_id = line.fact.get("job_id", "")
        match line.fact["event"]:
            case "job.started":
                if line.reads and job_id in ended:
                    found.ran_again.add(job_id)
                if not line.fact["attempts_before"] and job_id not in ended:
                    worker, lost = begun.get(job_id, ("", 0))
                    if losses[worker] > lost:
                        found.unknown.add(job_id)
                    begun[job_id] = line.worker, losses[line.worker]
            case "job.ended":
                ended.add(job_id)
            case "job.end_unpublished":
                found.unpublished.add(job_id)
            case "broker.lost":
                losses[line.worker] += 1
            case _:
                pass
        losses[line.worker] += line.is_last
    return found


def _lines(log: Path) -> Iterator[_Line]:
    reads = True
    texts = [it for it in log.read_text(errors="replace").splitlines() if it.startswith("{")]
    for number, text in enumerate(texts, start=1):
        fact: dict[str, Any] = json.loads(text)
        if fact["event"] in _BEGINS_TO_READ:
            reads = True
        elif fact["event"] == "journal.caught_up":
            reads = False
        yield _Line(fact["timestamp"], log.stem, fact, reads, number == len(texts))
