"""A consumer in a process of its own: what a signal or a restart of the broker costs its events."""

import pytest

from benchmarks.consumers.trial import FAULTS, Fault, is_whole, trial
from benchmarks.consumers.work import POISON

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_of_1000_events_is_handled_or_a_dead_letter(fault: Fault) -> None:
    outcome = await trial("with_client", fault)

    assert is_whole(outcome), outcome
    assert outcome.exit_code == 0
    assert outcome.dead[POISON]["x-aimicromind-attempts"] == 4
    # What was handled when the process was killed, and not acknowledged yet, comes again.
    assert outcome.repeats <= (100 if fault == "SIGKILL" else 0)
