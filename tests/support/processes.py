"""Programs as an operator starts them: real processes, real signals, logs as they are written."""

import asyncio
import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_COMMAND = Path(sys.executable).with_name("aimicromind-worker")
_SERVE = (sys.executable, "-m", "aimicromind_testing.serve")
_LONGEST_LINE = 1024 * 1024
_START_TIMEOUT_S = 45.0
_END_TIMEOUT_S = 10.0
_HEALTH = {"HEALTH_HOST": "127.0.0.1", "HEALTH_PORT": 0}


class WorkerProcess:
    """One `aimicromind-worker run`.

    Attributes:
        log_path: Everything it wrote to standard error.
        out_path: Everything it wrote to standard output.
        counts: How often each event was logged.
        leaving: Whether it got a signal that may end it.
    """

    def __init__(self, process: asyncio.subprocess.Process, log_path: Path, out_path: Path) -> None:
        self.log_path = log_path
        self.out_path = out_path
        self.counts: Counter[str] = Counter()
        self.leaving = False
        self._process = process
        self._lines: list[str] = []
        self._health_url: str | None = None
        self._all_read = False
        self._news = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    @property
    def runs(self) -> bool:
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def largest_mb(self) -> float:
        """The most memory that it has taken so far; it must run."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (kb,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
        return int(kb) / 1024

    @property
    def stderr(self) -> str:
        return "".join(self._lines)

    def only_sentence(self) -> str:
        """Give what it said on its last line, which must be all it said in vain."""
        (line,) = [line for line in self._lines if not line.startswith("{")]
        assert not self.out_path.read_text()
        name, sentence = line.rstrip("\n").split(": ", 1)
        assert name == "aimicromind-worker"
        return sentence

    def log(self, event: str | None = None, **facts: object) -> list[dict[str, Any]]:
        """Give the log lines, those of one event and with these facts if any are named."""
        wanted = facts if event is None else {"event": event, **facts}
        lines = [json.loads(line) for line in self._lines if line.startswith("{")]
        return [line for line in lines if wanted.items() <= line.items()]

    async def logged(
        self, event: str, *, count: int = 1, within_s: float = 15.0, **facts: object
    ) -> dict[str, Any]:
        """Wait for so many log lines of an event, and give the last of them."""

        def there() -> bool:
            return len(self.log(event, **facts)) >= count

        try:
            async with asyncio.timeout(within_s), self._news:
                await self._news.wait_for(lambda: there() or self._all_read)
        except TimeoutError as error:
            raise TimeoutError(f"no {event} within {within_s:g} s:\n{self.stderr}") from error
        assert there(), f"it ended without {event}:\n{self.stderr}"
        return self.log(event, **facts)[count - 1]

    async def ready(self) -> Self:
        # Several start at a time, on a machine that has much to do.
        await self.logged("worker.ready", within_s=_START_TIMEOUT_S)
        return self

    async def health_url(self) -> str:
        """Wait until it answers probes, and give where, without a slash at the end."""
        if self._health_url is None:
            listening = await self.logged("health.listening")
            self._health_url = f"http://{listening['host']}:{listening['port']}"
        return self._health_url

    def signal(self, number: signal.Signals) -> None:
        self.leaving |= number in {signal.SIGKILL, signal.SIGTERM, signal.SIGINT}
        self._process.send_signal(number)

    async def exits(self, within_s: float = _END_TIMEOUT_S) -> int:
        """Wait for its end and give the exit code, negative for a signal."""
        try:
            async with asyncio.timeout(within_s):
                await self._process.wait()
                await asyncio.shield(self._reading)
        except TimeoutError as error:
            raise TimeoutError(f"still running after {within_s:g} s:\n{self.stderr}") from error
        assert self._process.returncode is not None
        return self._process.returncode

    async def end(self) -> None:
        """End it by force, if it runs, and wait until all that it wrote is read."""
        if self._process.returncode is None:
            self._process.kill()
        await self.exits()

    async def _read(self) -> None:
        assert self._process.stderr is not None
        with self.log_path.open("ab") as log:
            async for line in self._process.stderr:
                log.write(line)
                self._lines.append(line.decode())
                if line.startswith(b"{"):
                    self.counts[json.loads(line)["event"]] += 1
                async with self._news:
                    self._news.notify_all()
        self._all_read = True
        async with self._news:
            self._news.notify_all()


class Workers:
    """Workers of one installation; leaving the context ends those that still run."""

    def __init__(
        self, folder: Path, settings: Mapping[str, object], *, quiet: bool = False
    ) -> None:
        """Prepare; nothing is started.

        Args:
            folder: Where they run and their output goes.
            settings: What all of them get, by name without the prefix.
            quiet: Do not print in the end what they wrote.
        """
        self._folder = folder
        self._quiet = quiet
        self._settings = settings
        self._begun = 0
        self._started: list[WorkerProcess] = []

    async def start(self, **settings: object) -> WorkerProcess:
        """Start one with these settings, too; None takes a setting away.

        Its health port is a free one, if the settings name none.
        """
        self._begun += 1
        number = self._begun
        log_path, out_path = self._folder / f"{number}.log", self._folder / f"{number}.out"
        given = {**_HEALTH, **self._settings, **settings}
        with out_path.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                _COMMAND,
                "run",
                cwd=self._folder,
                env=_environment(given),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=asyncio.subprocess.PIPE,
                limit=_LONGEST_LINE,
            )
        worker = WorkerProcess(process, log_path, out_path)
        self._started.append(worker)
        return worker

    @property
    def running(self) -> list[WorkerProcess]:
        return [worker for worker in self._started if worker.runs]

    async def holder(self, job_id: str, within_s: float = 15.0) -> WorkerProcess:
        """Wait until a running worker has begun with a job, and give that worker."""
        waiting = {
            asyncio.create_task(worker.logged("job.started", job_id=job_id)): worker
            for worker in self.running
        }
        try:
            done, _ = await asyncio.wait(
                waiting, timeout=within_s, return_when=asyncio.FIRST_COMPLETED
            )
            (first,) = done
            await first
            return waiting[first]
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.gather(*(worker.end() for worker in self._started))
        if self._quiet:
            return
        for number, worker in enumerate(self._started, start=1):
            # A test that failed shows it.
            print(f"--- worker {number}\n{worker.stderr}")  # noqa: T201


@asynccontextmanager
async def serving_endpoint() -> AsyncIterator[str]:
    """Run the scripted endpoint as a process of its own; gives its base URL."""
    process = await asyncio.create_subprocess_exec(
        *_SERVE, env=_environment({}), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(15):
            ready, url = (await process.stdout.readline()).decode().split()
        assert ready == "ready"
        yield url
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _environment(settings: Mapping[str, object]) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith("AIMICROMIND_")
    }
    given = {
        f"AIMICROMIND_{name}": str(value) for name, value in settings.items() if value is not None
    }
    return inherited | given
