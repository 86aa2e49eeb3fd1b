"""Workers of an older version and of this one work side by side, as in a rolling deployment."""

import asyncio
import compileall
import io
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
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
_CONTRACT: Final = "schemas/aimicromind_schemas"
_VERSION_2: Final = '"maxCalls"'
"""In the JSON schema of a job since version 2 of the contract, which changed queue arguments."""


def _git(*arguments: str) -> bytes:
    command = ("git", "-C", str(_REPOSITORY), *arguments)
    return subprocess.run(command, check=True, capture_output=True).stdout


def _shares_our_contract(commit: str) -> bool:
    try:
        _git("grep", "--quiet", "--fixed-strings", _VERSION_2, commit, "--", _CONTRACT)
    except subprocess.CalledProcessError:
        return False
    return True


def _older_commits() -> Iterator[str]:
    """Return commits that may share a broker with this version, the most distant first.

    The last one is HEAD, which is all there is where the contract is new or the clone is shallow.
    """
    count = f"--max-count={_COMMITS_BACK + _COMMITS_TRIED}"
    try:
        head, *before = _git("rev-list", "--first-parent", count, "HEAD").decode().split()
    except (subprocess.CalledProcessError, FileNotFoundError):
        return
    far, near = before[_COMMITS_BACK - 1 :], before[: _COMMITS_BACK - 1]
    yield from filter(_shares_our_contract, (*far, *reversed(near)))
    yield head


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The source of the version some commits ago; it runs with today's libraries."""
    for commit in _older_commits():
        folder = tmp_path / commit
        with tarfile.open(fileobj=io.BytesIO(_git("archive", commit, "worker", "schemas"))) as it:
            it.extractall(folder, filter="data")
        # A commit within a series may be no version that anybody could have run.
        if compileall.compile_dir(folder, quiet=2):
            return folder
    pytest.skip("git has no version here that runs")


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
