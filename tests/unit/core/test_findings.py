"""What doctor concludes from facts of the broker."""

import pytest

from aimicromind_worker.core.findings import State, of_replicas

SPREAD = [("jobs", "a", 3), ("journal", "b", 3), ("endings", "c", 3)]


def test_single_node_has_nothing_to_spread() -> None:
    assert not list(of_replicas(1, [("jobs", "a", 1), ("journal", "a", 1)]))


def test_spread_queues_of_a_cluster_are_well() -> None:
    (finding,) = of_replicas(3, SPREAD)

    assert (finding.state, finding.detail) == (State.OK, "3 members each, on 3 nodes")


@pytest.mark.parametrize(("nodes", "members"), [(2, 1), (3, 1), (3, 2), (5, 2)])
def test_queues_with_too_few_members_are_named(nodes: int, members: int) -> None:
    (finding,) = of_replicas(nodes, [*SPREAD, ("jobs.dead", "b", members)])

    assert finding.state is State.WARNING
    assert finding.detail.endswith(": jobs.dead")
    assert "rabbitmq-queues grow" in finding.remedy


def test_leaders_on_one_node_are_a_warning() -> None:
    (finding,) = of_replicas(3, [(name, "a", members) for name, _, members in SPREAD])

    assert (finding.about, finding.state) == ("leaders", State.WARNING)
    assert "a, which does all the work" in finding.detail
