"""Run programs as processes, and measure their CPU time and memory."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from aimicromind_testing.broker.process import dies_with_its_parent
from tests.support.strain import cpu_s
from tools.generated import TOP

_LOOK_EVERY_S: Final = 0.005
_STOP_WITHIN_S: Final = 10.0


class ProgramFailed(Exception):
    """A program ended, or did not print the expected line in time."""


class Program:
    """A process in a session of its own. Leaving the context ends it and its children.

    Attributes:
        ready_s: Time from its start until it was ready.
        ready_cpu_s: CPU time in that time.
    """

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Prepare.

        Args:
            command: Program and arguments.
            log: File for stdout and stderr.
            environment: Variables beside this process's own, without AIMICROMIND_* of those.
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
                *dies_with_its_parent(),
                *self._command,
                cwd=TOP,
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
        """Wait until it prints a line with these words, and return the line; it is ready then."""
        began = time.perf_counter()
        line = await self.says(words, within_s)
        self.ready_s = time.perf_counter() - began
        children = psutil.Process(self.pid).children(recursive=True)
        self._pids = [self.pid, *(child.pid for child in children)]
        self.ready_cpu_s = self.cpu_s()
        return line

    async def says(self, words: str, within_s: float) -> str:
        """Wait until it has printed a line with these words, and return the line.

        Raises:
            ProgramFailed: It ended, or did not print the line in time.
        """
        until = time.monotonic() + within_s
        while True:
            for line in self._log.read_text(errors="replace").splitlines(keepends=True):
                if words in line and line.endswith("\n"):
                    return line.strip()
            if self._process.returncode is not None or time.monotonic() > until:
                tail = self._log.read_text(errors="replace")[-3000:]
                command = " ".join(self._command)
                raise ProgramFailed(f"{command} did not print {words!r} in time:\n{tail}")
            await asyncio.sleep(_LOOK_EVERY_S)

    def cpu_s(self) -> float:
        """Return the CPU time so far of a ready program and its children, user and system."""
        return sum(cpu_s(pid) for pid in self._pids)

    def rss_bytes(self) -> int:
        """Return the memory of a ready program now; pages shared with children count once."""
        if len(self._pids) == 1:
            return int(psutil.Process(self.pid).memory_info().rss)
        return sum(int(psutil.Process(pid).memory_full_info().pss) for pid in self._pids)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
