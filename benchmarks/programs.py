"""Programs that take part, each a process of its own, and the CPU time and memory they use."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import which
from types import TracebackType
from typing import Final, Self

import psutil

_LOOK_EVERY_S: Final = 0.005
_STOP_WITHIN_S: Final = 10.0
_CPU_CLOCK: Final = 2
# Debian's util-linux has it; the program takes its place, and its process id.
_DIES_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL", "--") if which("setpriv") else ()
ROOT: Final = Path(__file__).parents[1]


class ProgramFailed(Exception):
    """A program ended, or did not say in time what was waited for."""


class Program:
    """A process that leads a session of its own. Leaving the context ends it and its children.

    Attributes:
        ready_s: How long it took to be ready.
        ready_cpu_s: The CPU time of that.
    """

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Prepare.

        Args:
            command: What to run.
            log: What it prints goes here.
            environment: Further variables.
        """
        self.ready_s = 0.0
        self.ready_cpu_s = 0.0
        self._command = command
        self._log = log
        self._environment = environment or {}
        self._pids: list[int] = []
        self._process: asyncio.subprocess.Process

    async def __aenter__(self) -> Self:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.upper().startswith("AIMICROMIND_")
        }
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *_DIES_WITH_US,
                *self._command,
                cwd=ROOT,
                env={**inherited, **self._environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_WITHIN_S):
                await self._process.wait()
        except TimeoutError:
            pass
        finally:
            self._signal(signal.SIGKILL)
            await self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ready(self, words: str, within_s: float = 30.0) -> str:
        """Wait until it says that it is ready; give that line."""
        began = time.perf_counter()
        line = await self.says(words, within_s)
        self.ready_s = time.perf_counter() - began
        children = psutil.Process(self.pid).children(recursive=True)
        self._pids = [self.pid, *(child.pid for child in children)]
        self.ready_cpu_s = self.cpu_s()
        return line

    async def says(self, words: str, within_s: float) -> str:
        """Wait until it has printed a line with these words; give it."""
        until = time.monotonic() + within_s
        while True:
            for line in self._log.read_text(errors="replace").splitlines(keepends=True):
                if words in line and line.endswith("\n"):
                    return line.strip()
            if self._process.returncode is not None or time.monotonic() > until:
                tail = self._log.read_text(errors="replace")[-3000:]
                raise ProgramFailed(f"{' '.join(self._command)} did not say {words}:\n{tail}")
            await asyncio.sleep(_LOOK_EVERY_S)

    def cpu_s(self) -> float:
        """Give the CPU time so far, user and system, of it and its children. For a ready one."""
        return sum(cpu_s(pid) for pid in self._pids)

    def rss_bytes(self) -> int:
        """Give the memory that a ready one holds now; pages shared with children count once."""
        if len(self._pids) == 1:
            return int(psutil.Process(self.pid).memory_info().rss)
        return sum(int(psutil.Process(pid).memory_full_info().pss) for pid in self._pids)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def cpu_s(pid: int) -> float:
    """Give the CPU time so far of a process and all its threads, to the nanosecond.

    The clock's number is that of clock_getcpuclockid(3) on Linux, which Python does not offer.
    """
    return time.clock_gettime(~pid << 3 | _CPU_CLOCK)


def broker_pid(node_name: str) -> int:
    """Find a broker's own process among those that this process has started."""
    (found,) = (
        child.pid
        for child in psutil.Process().children(recursive=True)
        if child.name().startswith("beam") and child.environ().get("RABBITMQ_NODENAME") == node_name
    )
    return found
