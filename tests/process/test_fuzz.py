"""A short fuzz run on a real endpoint, worker and broker; `make fuzz` is the long one."""

from pathlib import Path

import pytest

from aimicromind_worker.testing import PrivateBroker
from tests.fuzz.report import Report
from tests.fuzz.through_worker import through_worker

pytestmark = pytest.mark.timeout(120)


async def test_mutated_recordings_come_to_what_their_bytes_say(
    broker: PrivateBroker, tmp_path: Path
) -> None:
    report = Report("worker")

    await through_worker(broker, tmp_path, 20_261_122, range(64), report)

    assert report.wrong == []
    assert {"completed", "stream_cut", "too_large"} <= report.endings
