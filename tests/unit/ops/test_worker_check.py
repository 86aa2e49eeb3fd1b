"""What `doctor` finds about the workers."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from aimicromind_schemas import WorkerReport
from aimicromind_worker.core.findings import State
from aimicromind_worker.ops.worker_check import of_workers
from tests.unit.ops.statuses import DRAINING, WELL

GONE = replace(DRAINING, consumers=0)


@pytest.mark.parametrize(
    ("consumers", "reports", "state", "told"),
    [
        (0, [], State.WARNING, "no worker takes jobs"),
        (1, [WELL], State.OK, "1 of 1 take jobs, with 32 slots"),
        (1, [WELL, GONE], State.OK, "1 of 2 take jobs, with 32 slots"),
        (0, [GONE], State.WARNING, "no worker takes jobs: worker-2/7: the worker is draining"),
        (1, [], State.WARNING, "the queue of jobs has 1 consumer, and 1 of no worker"),
        (3, [WELL], State.WARNING, "the queue of jobs has 3 consumers, and 2 of no worker"),
    ],
)
def test_workers_that_take_jobs_are_counted(
    consumers: int, reports: Sequence[WorkerReport], state: State, told: str
) -> None:
    finding = of_workers(consumers, reports)

    assert finding.state is state
    assert finding.detail.startswith(told)
    assert bool(finding.remedy) == (state is not State.OK)


def test_workers_that_cannot_be_asked_are_not_checked() -> None:
    finding = of_workers(2, [], ["the workers cannot be asked: the user lacks a permission"])

    assert finding.state is State.NOT_CHECKED
    assert "2 consumers" in finding.detail
    assert "lacks a permission" in finding.detail
