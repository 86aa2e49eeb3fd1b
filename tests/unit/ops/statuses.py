"""Reports and statuses as tests need them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec

from aimicromind_schemas import WorkerReport
from aimicromind_worker.ops.status.facts import (
    BrokerTold,
    DeadLetters,
    Jobs,
    Reach,
    Status,
    Throughput,
)

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
WELL = WorkerReport(
    worker="1",
    host="worker-1",
    pid=7,
    version="1.0.0",
    up_seconds=100.0,
    ready=True,
    obstacles=(),
    slots=32,
    running=3,
    waiting=2,
    waiting_for_chat=1,
    consumers=1,
    ended=10,
    events=1000,
    oldest_seconds=12.5,
)
DRAINING = replace(
    WELL, worker="2", host="worker-2", ready=False, obstacles=("the worker is draining",)
)
JOBS = Jobs(17, 12, 3, 1, {2: 3, 10: 0, 60: 1}, 0, 252.0)
STATUS = Status(
    time=NOW,
    workers=(WELL, DRAINING),
    consumers=2,
    silent_consumers=0,
    jobs=JOBS,
    dead_letters=DeadLetters(23, 23, {"stream_cut": 15, "unauthorized": 8}),
    event_log=Reach(NOW - timedelta(hours=23, minutes=59), None),
    journal=Reach(NOW - timedelta(days=6), NOW - timedelta(days=6)),
    throughput=Throughput(1.04, 12.345, 1204.2),
    broker=None,
    unknown=(),
)


def status(**changed: object) -> Status:
    """Return a status, with some of it changed."""
    return msgspec.structs.replace(STATUS, **changed)


TOLD = BrokerTold(16, 3.2, 2.5, ("memory on rabbit@a",))
