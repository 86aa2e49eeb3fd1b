"""The benchmark of chat locks takes and releases locks of each kind."""

import pytest

from aimicromind_testing import PrivateBroker
from benchmarks.chat_locks import LockBroker, measure
from benchmarks.locks.kinds import KINDS, LockKind
from benchmarks.parts.programs import broker_pid


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_locks_of_each_kind_are_measured(kind: LockKind, broker: PrivateBroker) -> None:
    nodes = LockBroker([broker.url, broker.url], [broker_pid(broker.node_name)])

    figures = await measure(kind, nodes, locks=10, lockers=2, warm_ups=2)

    assert len(figures.took_ms) == 10
    assert min(figures.locks_per_s, figures.broker_ms or 0.0, figures.client_ms) > 0
