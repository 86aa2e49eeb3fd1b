"""A private RabbitMQ cluster: nodes to be killed, frozen and brought back, all gone afterwards."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aimicromind_testing import PrivateBroker
from aimicromind_testing.broker.home import Identity

_SIZE: Final = 3
_JOINED_WITHIN_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes that found each other; each is killed, frozen and started as a broker by itself is.

    Queues get a member on each node if they are declared while all run.
    """

    nodes: Sequence[PrivateBroker]

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    async def leader_of(self, queue: str) -> PrivateBroker:
        """Find the node that leads a quorum queue or a stream; the first node must run."""
        listed = await self.nodes[0].rabbitmqctl(
            "list_queues", "name", "leader", "--formatter", "json"
        )
        (leader,) = [row["leader"] for row in json.loads(listed) if row["name"] == queue]
        return next(node for node in self.nodes if node.node_name == leader)

    async def restore(self) -> None:
        """Have all nodes run and answer, together: one that was killed may wait for the others."""
        for node in self.nodes:
            node.resume()
        await asyncio.gather(*(node.start() for node in self.nodes))


@asynccontextmanager
async def running_cluster(settings: Mapping[str, str] | None = None) -> AsyncIterator[Cluster]:
    """Run three nodes.

    Args:
        settings: Further lines of each node's `rabbitmq.conf`, by name.
    """
    first = Identity.new()
    identities = [first, *(first.neighbour() for _ in range(_SIZE - 1))]
    formation = {**_formation(identities), **(settings or {})}
    nodes = [PrivateBroker(settings=formation, identity=identity) for identity in identities]
    async with AsyncExitStack() as stack:
        async with asyncio.TaskGroup() as starting:
            for node in nodes:
                starting.create_task(stack.enter_async_context(node))
        cluster = Cluster(nodes)
        try:
            await _joined(cluster)
            yield cluster
        finally:
            # What they would write in good order goes with them.
            await asyncio.gather(*(node.kill() for node in nodes))


def _formation(identities: Sequence[Identity]) -> dict[str, str]:
    peers = {
        f"cluster_formation.classic_config.nodes.{number}": identity.node_name
        for number, identity in enumerate(identities, start=1)
    }
    return {
        "cluster_formation.peer_discovery_backend": "classic_config",
        **peers,
    }


async def _joined(cluster: Cluster) -> None:
    async with asyncio.timeout(_JOINED_WITHIN_S):
        while True:
            told = await cluster.nodes[0].rabbitmqctl("cluster_status", "--formatter", "json")
            if len(json.loads(told)["running_nodes"]) == len(cluster.nodes):
                return
