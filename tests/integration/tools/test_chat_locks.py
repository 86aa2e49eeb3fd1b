"""The benchmark of chat locks takes and releases locks of each kind."""

from aimicromind_testing import PrivateBroker
from benchmarks.chat_locks import LockBroker, measure
from benchmarks.locks.kinds import KINDS


async def test_locks_of_each_kind_are_measured(broker: PrivateBroker) -> None:
    nodes = LockBroker([broker.url, broker.url], [broker.pid])

    for kind in KINDS:
        figures = await measure(kind, nodes, locks=10, lockers=2, warm_ups=2)

        assert len(figures.took_ms) == 10, kind.name
        assert min(figures.locks_per_s, figures.client_ms) > 0, kind.name
