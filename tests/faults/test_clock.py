"""Clocks of workers are wrong by minutes, from the start or all at once."""

import time
from datetime import datetime
from pathlib import Path
from typing import Final

import pytest

from tests.faults.trial import Trial
from tests.support.marked import marked
from tests.support.processes import WorkerProcess

pytestmark = pytest.mark.timeout(120)

_FOUND: Final = [*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]
_NEEDED: Final = pytest.mark.skipif(
    not _FOUND, reason="libfaketime is not there; scripts/find-faketime.sh installs it"
)
_MINUTES: Final = 10


async def _worker_with_clock(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, file: Path
) -> WorkerProcess:
    """Start a worker whose clock is off by what the file says, at any time."""
    with monkeypatch.context() as changed:
        changed.setenv("LD_PRELOAD", str(_FOUND[0]))
        changed.setenv("FAKETIME_TIMESTAMP_FILE", str(file))
        changed.setenv("FAKETIME_NO_CACHE", "1")
        changed.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        return await trial.worker()


@_NEEDED
@pytest.mark.parametrize("sign", ["+", "-"])
async def test_clock_that_jumps_while_jobs_run_changes_nothing(
    sign: str, trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.endpoint.flow("flow", marked())
    file = tmp_path / "clock"
    file.write_text("+0m")
    await _worker_with_clock(trial, monkeypatch, file)
    before, after = [[trial.job(tokens=40, rate=20) for _ in range(4)] for _ in range(2)]
    with trial.listening() as heard:
        trial.submit(*before)
        for job in before:
            await heard.saw(job.job_id, "token", 5)

        file.write_text(f"{sign}{_MINUTES}m")
        trial.submit(*after)
        every = await trial.ended(*before, *after)
        off_s = _off_by(heard.job(after[0].job_id)[0].event["time"])
        await trial.verdict()

    assert {(seen.end["status"], seen.end["calls"]) for seen in every} == {("completed", 1)}
    assert abs(off_s) > 0.9 * _MINUTES * 60


@_NEEDED
async def test_workers_whose_clocks_differ_carry_on_each_others_jobs(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.endpoint.flow("flow", marked())
    early, late = tmp_path / "early", tmp_path / "late"
    early.write_text(f"-{_MINUTES}m")
    late.write_text(f"+{_MINUTES}m")
    dying = await _worker_with_clock(trial, monkeypatch, late)
    await _worker_with_clock(trial, monkeypatch, early)
    jobs = [trial.job(tokens=40, rate=20) for _ in range(8)]
    with trial.listening() as heard:
        trial.submit(*jobs)
        for job in jobs:
            await heard.saw(job.job_id, "token", 5)

        trial.kill(dying)
        every = await trial.ended(*jobs)
        await trial.verdict()

    assert {seen.end["status"] for seen in every} == {"completed"}
    assert {seen.end["attempts"] for seen in every} == {1, 2}


def _off_by(written: str) -> float:
    return datetime.fromisoformat(written).timestamp() - time.time()
