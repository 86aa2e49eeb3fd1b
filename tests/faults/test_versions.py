"""Workers of an older version and of this one work side by side, as in a rolling deployment."""

import asyncio
import compileall
import io
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final

import pytest

from tests.faults.trial import Trial
from tests.support.marked import marked
from tests.support.processes import WorkerProcess

pytestmark = pytest.mark.timeout(150)

_REPOSITORY: Final = Path(__file__).parents[2]
_COMMITS_BACK: Final = 10
_COMMITS_TRIED: Final = 10


def _git(*arguments: str) -> bytes:
    command = ("git", "-C", str(_REPOSITORY), *arguments)
    return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The source of the version some commits ago; it runs with today's libraries."""
    try:
        count = f"--max-count={_COMMITS_BACK + _COMMITS_TRIED}"
        commits = _git("rev-list", count, "HEAD").decode().split()[_COMMITS_BACK:]
    except (subprocess.CalledProcessError, FileNotFoundError):
        commits = []
    for commit in commits:
        folder = tmp_path / commit
        with tarfile.open(fileobj=io.BytesIO(_git("archive", commit, "worker", "schemas"))) as it:
            it.extractall(folder, filter="data")
        # A commit within a series may be no version that anybody could have run.
        if compileall.compile_dir(folder, quiet=2):
            return folder
    pytest.skip(f"git has no version of {_COMMITS_BACK} commits ago here")


async def _older_worker(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> WorkerProcess:
    # Before the folders of the installed packages, which lead to today's source.
    with monkeypatch.context() as changed:
        paths = [str(folder / "worker"), str(folder / "schemas")]
        changed.setenv("PYTHONPATH", os.pathsep.join(paths))
        asked = (sys.executable, "-c", "import aimicromind_worker as it; print(it.__file__)")
        process = await asyncio.create_subprocess_exec(*asked, stdout=asyncio.subprocess.PIPE)
        told, _ = await process.communicate()
        assert told.decode().startswith(str(folder))
        return await trial.worker()


async def test_jobs_go_from_old_workers_to_new_ones_and_back(
    trial: Trial, older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.endpoint.flow("flow", marked())
    old = await _older_worker(trial, monkeypatch, older)
    new = await trial.worker()
    jobs = [trial.job(tokens=60, rate=20) for _ in range(10)]
    with trial.listening() as heard:
        trial.submit(*jobs)
        for job in jobs:
            await heard.saw(job.job_id, "token", 5)

        trial.kill(old)
        for job in jobs:
            await heard.saw(job.job_id, "token", 12)
        back = await _older_worker(trial, monkeypatch, older)
        new.signal(signal.SIGTERM)
        trial.interrupted()
        every = await trial.ended(*jobs, within_s=60)
        late = trial.job()
        trial.submit(late)
        await trial.ended(late)
        await back.logged("job.ended", job_id=late.job_id)
        await trial.verdict()

    assert {seen.end["status"] for seen in every} == {"completed"}
    assert {seen.end["attempts"] for seen in every} >= {1, 2}
