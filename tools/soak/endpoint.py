"""The soak's endpoint: a process that writes each call to a file, which remains after a SIGKILL.

`python -m tools.soak.endpoint PORT FILE SEED`; its first line on stdout is `ready URL`.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from typing_extensions import override

from aimicromind_testing import (
    Call,
    Reset,
    Script,
    ScriptedEndpoint,
    status_answer,
    too_many_requests,
)
from aimicromind_testing.endpoint.connection import ServerConnection
from tests.support.checker import EndpointCall
from tests.support.marked import job_of, marked, said

FLOW = "soak"
_BUSY = status_answer(503, b"busy")
_FAULTS = (
    (0.03, marked().cut(after_sends=4)),
    (0.01, marked().cut(Reset(), after_sends=6)),
    (0.01, marked().cut(after_sends=0)),
    (0.02, _BUSY),
    (0.01, too_many_requests("1")),
)


class NotingEndpoint(ScriptedEndpoint):
    """Answers as the question says, a part of the calls with a fault, and records each call."""

    def __init__(self, port: int, log: int, seed: int) -> None:
        super().__init__(port=port)
        self._log = log
        self.flow(FLOW, Script(lambda call: _script_for(call, seed).steps(call)))

    @override
    async def _predict(self, call: Call, connection: ServerConnection) -> None:
        asked = {"chat": call.chat_id, "session": call.session_id, "asked": call.question}
        _note(self._log, {**asked, "began": call.started})
        try:
            await super()._predict(call, connection)
        finally:
            ended = call.ended or time.monotonic()
            _note(self._log, {"chat": call.chat_id, "began": call.started, "ended": ended})


def _script_for(call: Call, seed: int) -> Script:
    chance = random.Random(f"{seed} {call.chat_id}").random()
    for part, script in _FAULTS:
        if chance < part:
            return script
        chance -= part
    return marked()


def _note(log: int, facts: dict[str, object]) -> None:
    # One write for each line: a SIGKILL afterwards does not lose it.
    os.write(log, json.dumps(facts).encode() + b"\n")


def noted_calls(log: Path, deaths: list[float]) -> list[EndpointCall]:
    """Read the calls of all processes; a call that was open at a death ended then.

    Args:
        log: The file.
        deaths: When each process was killed, in seconds of `time.monotonic`.
    """
    begun: list[EndpointCall] = []
    ends: dict[tuple[str, float], float] = {}
    for line in log.read_text().splitlines():
        facts = json.loads(line)
        chat, began = facts["chat"], facts["began"]
        if "ended" in facts:
            ends[chat, began] = facts["ended"]
            continue
        asked = facts["asked"]
        says = said(asked, chat)
        begun.append(EndpointCall(job_of(asked), chat, facts["session"], began, None, says))
    return [
        replace(call, ended=ends.get((call.chat_id, call.began), _first_after(call.began, deaths)))
        for call in begun
    ]


def _first_after(began: float, deaths: list[float]) -> float | None:
    return min((death for death in deaths if death >= began), default=None)


async def _serve(port: int, log: int, seed: int) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with NotingEndpoint(port, log, seed) as endpoint:
        sys.stdout.write(f"ready {endpoint.url}\n")
        sys.stdout.flush()
        # The records of the base class would grow without bound.
        while not stopped.is_set():
            endpoint.calls.clear()
            endpoint.other_requests.clear()
            try:
                await asyncio.wait_for(stopped.wait(), 5)
            except TimeoutError:
                continue


if __name__ == "__main__":
    descriptor = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    asyncio.run(_serve(int(sys.argv[1]), descriptor, int(sys.argv[3])))
