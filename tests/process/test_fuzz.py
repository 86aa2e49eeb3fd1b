"""Short fuzz runs on a real broker, worker and endpoint; `make fuzz` begins long ones."""

from pathlib import Path

import pytest

from aimicromind_testing import PrivateBroker
from tools.fuzz.report import Report
from tools.fuzz.through_guard import through_guard
from tools.fuzz.through_worker import through_worker

pytestmark = pytest.mark.timeout(240)


async def test_mutated_recordings_come_to_what_their_bytes_say(
    broker: PrivateBroker, tmp_path: Path
) -> None:
    report = Report("worker")

    await through_worker(broker, tmp_path, 20_261_122, range(64), report)

    assert report.wrong == []
    assert {"completed", "stream_cut", "too_large"} <= report.endings


async def test_odd_messages_end_no_session_and_no_connection_and_cost_no_other_job(
    broker: PrivateBroker, tmp_path: Path
) -> None:
    found = await through_guard(broker, tmp_path, 20_261_122, 3_000)

    assert found.wrong == []
    assert sum(found.sent.values()) == 3_000
    assert found.regular > 3
