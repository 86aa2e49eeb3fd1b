"""Find the jobs that met a window which docs/guarantees.md leaves, by the logs of the workers.

- A copy of an ended job ran again, because its worker still read the journal after its start.
- A worker was lost between the record of an `end` and the `end`. The job after it may have begun
  before the repeat.
"""

import json
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
    """

    ran_again: set[str] = field(default_factory=set)
    unpublished: set[str] = field(default_factory=set)


def windows_of(folder: Path) -> Windows:
    """Read the logs of all workers in a folder."""
    found, ended = Windows(), set[str]()
    lines = (line for log in folder.glob("*.log") for line in _lines(log))
    for _, fact, reads in sorted(lines, key=lambda it: it[0]):
        job_id = fact.get("job_id", "")
        match fact["event"]:
            case "job.started" if reads and job_id in ended:
                found.ran_again.add(job_id)
            case "job.ended":
                ended.add(job_id)
            case "job.end_unpublished":
                found.unpublished.add(job_id)
            case _:
                pass
    return found


def _lines(log: Path) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Yield time and facts of each line, and whether the worker read the journal then."""
    reads = True
    for line in log.read_text(errors="replace").splitlines():
        if not line.startswith("{"):
            continue
        fact: dict[str, Any] = json.loads(line)
        if fact["event"] in _BEGINS_TO_READ:
            reads = True
        elif fact["event"] == "journal.caught_up":
            reads = False
        yield fact["timestamp"], fact, reads
