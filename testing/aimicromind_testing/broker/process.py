"""Run child processes that do not outlive this one, each in a session of its own."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import IO, Self


class OwnedProcess:
    """A running child, with all processes of its session; a signal reaches all of them.

    A ^C on the terminal reaches this process only, which can then end the child in order.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(
        cls, *command: str, folder: Path, environment: Mapping[str, str], output: IO[bytes]
    ) -> Self:
        """Start a command whose stdout and stderr go to the file `output`."""
        return cls(
            await asyncio.create_subprocess_exec(
                *dies_with_its_parent(),
                *command,
                cwd=folder,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        )

    @property
    def pid(self) -> int:
        """The process id of the child."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.returncode

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole session; nothing happens if the child has ended."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def suspend(self) -> None:
        """Send SIGSTOP to the whole session, and wait until the child has stopped."""
        self.signal(signal.SIGSTOP)
        if self._process.returncode is None and sys.platform == "linux":
            # The kernel stops the threads some time after the signal.
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    async def ends_within(self, deadline: timedelta) -> bool:
        """Wait for the child's end, and return whether it ended in time."""
        try:
            async with asyncio.timeout(deadline.total_seconds()):
                await self._process.wait()
        except TimeoutError:
            return False
        return True


def dies_with_its_parent() -> tuple[str, ...]:
    """Return a command prefix with which the kernel kills the command when its parent ends.

    It is empty except on Linux with the `setpriv` of util-linux.
    """
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    if setpriv is None or Path(setpriv).resolve().name != "setpriv":  # busybox lacks the option
        return ()
    return (setpriv, "--pdeathsig", "KILL", "--")
