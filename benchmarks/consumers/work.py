"""Do a handler's work: fail as the trial wants, else note that the event was handled."""

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import Final

POISON: Final = "job-500"
DELAYS_MS: Final = (200, 400, 800)
AT_ONCE: Final = 10
_WORKS_S: Final = 0.005


class Work:
    """The handler's work, of one process. The poison event always fails, every third call does."""

    def __init__(self, noted_in: str) -> None:
        self._file = os.open(Path(noted_in), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._calls: Counter[str] = Counter()

    async def on_end(self, job_id: str) -> None:
        """Handle an event.

        Raises:
            RuntimeError: It fails.
        """
        await asyncio.sleep(_WORKS_S)
        self._calls["all"] += 1
        if job_id == POISON or self._calls["all"] % 3 == 0:
            raise RuntimeError("it fails")
        os.write(self._file, f"{job_id}\n".encode())
