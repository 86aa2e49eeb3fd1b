"""Jobs as long as they may be: each takes its own size, and the event loop goes on."""

import pytest

from benchmarks.memory import LONGEST, LargeJobs, cases, measured
from benchmarks.turns.turn import stage

pytestmark = pytest.mark.timeout(240)

_MB = 1e6
# What Python and the sockets keep, however few jobs there are.
_BESIDE_MB = 24
_STILL_S = 0.1
_SMALL = b'{"sessionId":"s",' + b",".join(b'"%06x":0' % it for it in range(700_000)) + b"}"
# Many jobs of text are in test_held_bytes.py.
_CASES = [case for case in cases() if case.name != "32 jobs, 8 MiB of text each"]
_OTHERS = (
    LargeJobs("members of overrideConfig", _SMALL, 1, member="overrideConfig"),
    LargeJobs("halves of emoji", b'"%b"' % (b"\\ud83d" * (LONGEST // 6 - 200)), 1),
)


async def test_long_jobs_take_their_own_size_and_the_loop_goes_on() -> None:
    too_large, too_still, failed = [], [], []
    async with stage() as on:
        for case in (*_CASES, *_OTHERS):
            runs = [await measured(on, case, idle_s=0)]
            if runs[0][1].busiest_s > _STILL_S:
                # What runs beside it adds to CPU time, and never takes from it.
                runs.append(await measured(on, case, idle_s=0))
            # Each body, and the frames of one of them; halves of emoji are copied once.
            allowed_mb = (case.count + 2) * 1.1 * LONGEST / _MB + _BESIDE_MB
            for _, strain, completed in runs:
                if strain.grown_mb > allowed_mb:
                    too_large.append((case.name, strain))
                if completed != case.count:
                    failed.append((case.name, completed))
            # In CPU time: the worker may stand still for other programs, too.
            if all(strain.busiest_s > _STILL_S for _, strain, _ in runs):
                too_still.append((case.name, runs))

    assert not failed
    assert not too_large
    assert not too_still
