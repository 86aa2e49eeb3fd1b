"""Find the copies of jobs that a worker ran again because it still read the journal back.

docs/guarantees.md names this window: a copy for another chat meets a worker that has just started.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BEGINS_TO_READ = {"health.listening", "broker.lost"}


def ran_while_read(folder: Path, prefix: str) -> set[str]:
    """Return the ids of the jobs that began in a chat while their worker read the journal.

    Args:
        folder: The folder of the workers' logs.
        prefix: What the names of these chats begin with.
    """
    return {job_id for log in folder.glob("*.log") for job_id in _in_one(log, prefix)}


def _in_one(log: Path, prefix: str) -> Iterator[str]:
    reads = True
    for line in log.read_text(errors="replace").splitlines():
        if not line.startswith("{"):
            continue
        fact: dict[str, Any] = json.loads(line)
        if fact["event"] in _BEGINS_TO_READ:
            reads = True
        elif fact["event"] == "journal.caught_up":
            reads = False
        elif reads and fact["event"] == "job.started" and fact["chat_id"].startswith(prefix):
            yield fact["job_id"]
