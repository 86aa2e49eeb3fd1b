"""Report what this worker does, in answer to `aimicromind-worker status`."""

import os
import socket
from datetime import UTC, datetime
from importlib.metadata import version
from time import monotonic
from typing import Final

from aimicromind_schemas import Names, StatusRequest, WorkerReport
from aimicromind_worker.amqp.events.snapshots import SnapshotPublisher
from aimicromind_worker.amqp.jobs.cancel_listener import CancelListener
from aimicromind_worker.amqp.jobs.consumer import JobConsumer
from aimicromind_worker.app.process_state import ProcessState
from aimicromind_worker.app.settings import Settings
from aimicromind_worker.jobs.status_answers import StatusAnswers
from aimicromind_worker.jobs.turns import Turns

_VERSION: Final = version("aimicromind-worker")
_LONGEST_REASON: Final = 500
_LONGEST_NAME: Final = 255


def status_answers(
    process: ProcessState,
    settings: Settings,
    reports: SnapshotPublisher,
    control: CancelListener,
    source: JobConsumer,
    turns: Turns,
) -> StatusAnswers:
    """Return what answers requests for the status; from then on, it gets all messages to the pool.

    Args:
        process: The state of the process.
        settings: The operator's settings.
        reports: What sends the answers.
        control: The receiver of the messages.
        source: The consumers of the queue of jobs.
        turns: The turns of chats, which get the messages of other workers.
    """

    def report(request: StatusRequest) -> WorkerReport:
        slots, counts = settings.concurrency, (source.consumers, turns.waiting)
        return own_report(process, slots, control.worker, *counts, request.job_id)

    answers = StatusAnswers(reports, Names(settings.prefix), report, turns.take_message)
    control.take_told = answers.take
    return answers


def own_report(
    process: ProcessState,
    slots: int,
    worker: str,
    consumers: int,
    waiting_for_chat: int,
    job_id: str | None = None,
) -> WorkerReport:
    """Return the present status of this worker.

    Args:
        process: The state of the process.
        slots: The most jobs that run at a time.
        worker: The queue that this worker is told by; it ends with a UUID.
        consumers: The number of consumers of the queue of jobs.
        waiting_for_chat: The number of jobs that wait for their chat.
        job_id: The job that was asked for; None: none was.
    """
    obstacles, oldest = process.status.why_not_ready(), process.held.oldest_submitted_at
    age_s = None if oldest is None else (datetime.now(UTC) - oldest).total_seconds()
    asked_for = None if job_id is None else process.held.find(job_id)
    return WorkerReport(
        worker=worker.rpartition(".")[2],
        host=(socket.gethostname() or "?")[:_LONGEST_NAME],
        pid=os.getpid(),
        version=_VERSION,
        up_seconds=round(monotonic() - process.began_s, 3),
        ready=not obstacles,
        obstacles=tuple(reason[:_LONGEST_REASON] for reason in obstacles),
        slots=slots,
        running=process.held.running,
        waiting=process.held.waiting,
        waiting_for_chat=waiting_for_chat,
        consumers=consumers,
        ended=process.metrics.ended,
        events=process.event_counts.published.total(),
        # The clock of the producer may be ahead.
        oldest_seconds=None if age_s is None else round(max(0.0, age_s), 3),
        job=None if asked_for is None else "running" if asked_for.is_run else "waiting",
    )
