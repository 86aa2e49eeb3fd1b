"""Probes of a real worker while hostile clients are thrown at its health port."""

import statistics
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker
from tests.process.stage import set_up
from tests.support.floods import FLOODS
from tests.support.probes import probe_under
from tests.support.processes import WorkerProcess

pytestmark = pytest.mark.asyncio(loop_scope="module")

_MEGABYTES = 40
_SECONDS = 3
_MOST_GROWTH_MB = 32
# As `make bench-health` finds it on a machine with nothing else to do, and the shortest time that
# the chart gives to a probe.
_MOSTLY_WITHIN_S, _ALWAYS_WITHIN_S = 0.2, 2.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker(
    broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[WorkerProcess]:
    folder: Path = tmp_path_factory.mktemp("floods")
    async with set_up(broker, Names("test-floods"), folder, quiet=True) as stage:
        yield await stage.ready_worker()


@pytest.mark.parametrize("flood", FLOODS)
async def test_flooded_worker_answers_probes_and_fills_no_memory(
    worker: WorkerProcess, flood: str
) -> None:
    before_mb = worker.largest_mb

    told = await probe_under(flood, await worker.health_url(), _MEGABYTES, _SECONDS)

    assert told.connections >= FLOODS[flood].connections
    assert not told.unanswered
    assert statistics.median(told.took_s) < _MOSTLY_WITHIN_S
    assert max(told.took_s) < _ALWAYS_WITHIN_S
    assert worker.largest_mb - before_mb < _MOST_GROWTH_MB
    assert not worker.log(level="error")
