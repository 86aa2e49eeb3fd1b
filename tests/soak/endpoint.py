"""The soak's endpoint, a process to be killed: it notes each call in a file that outlives it.

`python -m tests.soak.endpoint PORT FILE SEED`; its first line on stdout is `ready URL`.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from aimicromind_worker.testing import (
    Call,
    Reset,
    Script,
    ScriptedEndpoint,
    Step,
    status_answer,
    too_many_requests,
)
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


def noted(log: int, seed: int) -> Script:
    """Answer as asked, now and then with a fault; note when each call begins and is over."""

    def steps(call: Call) -> Iterator[Step]:
        asked = {"chat": call.chat_id, "session": call.session_id, "asked": call.question}
        _note(log, {**asked, "began": time.monotonic()})
        try:
            yield from _script_for(call, seed).steps(call)
        finally:
            _note(log, {"chat": call.chat_id, "ended": time.monotonic()})

    return Script(steps)


def _script_for(call: Call, seed: int) -> Script:
    chance = random.Random(f"{seed} {call.chat_id}").random()
    for part, script in _FAULTS:
        if chance < part:
            return script
        chance -= part
    return marked()


def _note(log: int, facts: dict[str, object]) -> None:
    # One write for each line: it is there even if the process is killed with its next step.
    os.write(log, json.dumps(facts).encode() + b"\n")


def noted_calls(log: Path, deaths: list[float]) -> list[EndpointCall]:
    """Read the calls of all its lives; what was live when one ended, ended then."""
    begun: dict[str, EndpointCall] = {}
    again: list[EndpointCall] = []
    ends: dict[str, float] = {}
    for line in log.read_text().splitlines():
        facts = json.loads(line)
        chat = facts["chat"]
        if "ended" in facts:
            ends[chat] = facts["ended"]
            continue
        asked, session = facts["asked"], facts["session"]
        says = said(asked, chat)
        call = EndpointCall(job_of(asked), chat, session, facts["began"], None, says)
        if chat in begun:
            again.append(call)
        else:
            begun[chat] = call
    return [_ended(call, ends, deaths) for call in [*begun.values(), *again]]


def _ended(call: EndpointCall, ends: dict[str, float], deaths: list[float]) -> EndpointCall:
    known = ends.get(call.chat_id)
    ended = known or min((death for death in deaths if death >= call.began), default=None)
    return EndpointCall(call.job_id, call.chat_id, call.session_id, call.began, ended, call.says)


async def _serve(port: int, log: int, seed: int) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with ScriptedEndpoint(port=port) as endpoint:
        endpoint.flow(FLOW, noted(log, seed))
        sys.stdout.write(f"ready {endpoint.url}\n")
        sys.stdout.flush()
        # Its own notes of calls would grow for as long as it runs.
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
