"""Read alarms and the queues of subscribers, which AMQP does not show, from the management API."""

import asyncio
from collections.abc import Sequence
from typing import Self
from urllib.parse import quote

import httpx
import msgspec

_TIMEOUT_S = 10.0


class ManagementSilent(Exception):
    """The management API does not answer, or its answer cannot be read."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the management API cannot be read: {reason}")


class Node(msgspec.Struct):
    """A node of the broker, and whether it has an alarm."""

    name: str
    mem_alarm: bool = False
    disk_free_alarm: bool = False


class Subscriber(msgspec.Struct):
    """A queue that is bound to the events.

    Attributes:
        arguments: Arguments of its declaration.
        effective_policy_definition: Arguments from policies.
    """

    name: str
    type: str = "classic"
    durable: bool = True
    exclusive: bool = False
    messages: int = 0
    arguments: dict[str, object] = {}
    effective_policy_definition: dict[str, object] | None = None

    def limit(self, name: str) -> object:
        """Return a limit by its name in policies, such as `max-length`; None if unset."""
        policy = self.effective_policy_definition or {}
        return self.arguments.get(f"x-{name}", policy.get(name))


class Replicas(msgspec.Struct):
    """Where a queue or stream is stored.

    Attributes:
        node: The node of its leader, or the only one.
        members: All nodes with a replica; empty for a classic queue.
    """

    name: str
    type: str = "classic"
    durable: bool = True
    node: str = ""
    leader: str = ""
    members: list[str] = []


class _Rate(msgspec.Struct, frozen=True):
    rate: float = 0.0


class _Rates(msgspec.Struct, frozen=True):
    publish_details: _Rate = _Rate()
    ack_details: _Rate = _Rate()


class QueueTraffic(msgspec.Struct):
    """Unacknowledged messages of a queue, and its messages a second.

    Attributes:
        message_stats: Rates of messages that came, and that were acknowledged.
    """

    messages_unacknowledged: int = 0
    message_stats: _Rates = _Rates()


class _Binding(msgspec.Struct):
    destination: str
    destination_type: str


class Management:
    """Reads the API. Use it with `async with`."""

    def __init__(self, url: str, virtual_host: str) -> None:
        """Prepare.

        Args:
            url: Address with user and password, without a path.
            virtual_host: Its name, not encoded.
        """
        self._client = httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S, trust_env=False)
        self._virtual_host = quote(virtual_host, safe="")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._client.aclose()

    async def nodes(self) -> Sequence[Node]:
        """Return the nodes.

        Raises:
            ManagementSilent: They cannot be read.
        """
        return msgspec.convert(await self._get("nodes"), list[Node], strict=False)

    async def replicas(self, prefix: str) -> Sequence[Replicas]:
        """Return where the durable queues and streams of a prefix are stored.

        Raises:
            ManagementSilent: They cannot be read.
        """
        # Without the statistics of messages, which cost a busy broker much.
        answer = await self._get(f"queues/{self._virtual_host}?disable_stats=true")
        found = msgspec.convert(answer, list[Replicas], strict=False)
        ours = f"{prefix}."
        return [it for it in found if it.durable and it.members and it.name.startswith(ours)]

    async def subscribers(self, exchange: str) -> Sequence[Subscriber]:
        """Return the queues that are bound to an exchange.

        Raises:
            ManagementSilent: They cannot be read.
        """
        path = f"exchanges/{self._virtual_host}/{quote(exchange, safe='')}/bindings/source"
        bindings = msgspec.convert(await self._get(path), list[_Binding])
        names = {it.destination for it in bindings if it.destination_type == "queue"}
        found = []
        for name in sorted(names):
            queue = await self._get(f"queues/{self._virtual_host}/{quote(name, safe='')}")
            found.append(msgspec.convert(queue, Subscriber))
        return found

    async def traffic(self, queue: str) -> QueueTraffic:
        """Return what the API tells of the traffic of a queue, some seconds old.

        Raises:
            ManagementSilent: It cannot be read.
        """
        answer = await self._get(f"queues/{self._virtual_host}/{quote(queue, safe='')}")
        return msgspec.convert(answer, QueueTraffic, strict=False)

    async def _get(self, path: str) -> object:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                answer = await self._client.get(f"/api/{path}")
            if answer.status_code == httpx.codes.OK:
                return msgspec.json.decode(answer.content)
        except (httpx.HTTPError, TimeoutError, OSError, ValueError) as error:
            raise ManagementSilent(type(error).__name__) from error
        raise ManagementSilent(f"HTTP {answer.status_code} for {path.partition('/')[0]}")
