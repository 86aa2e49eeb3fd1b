"""The `topology` commands: declare, show and compare what jobs and events need on the broker."""

from dataclasses import asdict

import msgspec
from rich.console import Console
from rich.table import Table

from aimicromind_worker.adapters.connection import connect
from aimicromind_worker.adapters.topology import (
    compare,
    declare,
)
from aimicromind_worker.needs import needed_topology
from aimicromind_worker.settings import BrokerSettings


async def declare_all(settings: BrokerSettings) -> None:
    """Declare everything.

    Raises:
        TopologyDiffers: An object exists with other arguments.
        DeclarationRefused: The user lacks a permission.
    """
    wanted = needed_topology(settings)
    async with connect(
        settings.broker_urls, "aimicromind-worker topology", settings.heartbeat
    ) as broker:
        await declare(broker, wanted)
    Console().print(
        f"{len(wanted.exchanges)} exchanges and {len(wanted.queues)} queues are as needed",
        highlight=False,
    )


def show_all(settings: BrokerSettings, *, as_json: bool) -> None:
    """Show what is needed."""
    wanted = needed_topology(settings)
    if as_json:
        print(msgspec.json.encode(asdict(wanted)).decode())  # noqa: T201 - for other programs
        return
    table = Table("name", "kind", "bound to", "arguments")
    for name in wanted.exchanges:
        table.add_row(name, "topic exchange", "", "")
    for queue in wanted.queues:
        bound = "\n".join(f"{exchange} {key}" for exchange, key in queue.bindings)
        arguments = "\n".join(f"{name} = {value}" for name, value in queue.arguments.items())
        table.add_row(queue.name, "queue", bound, arguments)
    Console().print(table)


async def check_all(settings: BrokerSettings) -> bool:
    """Compare what the broker has with what is needed.

    Returns:
        Whether everything is as needed.
    """
    async with connect(
        settings.broker_urls, "aimicromind-worker topology", settings.heartbeat
    ) as broker:
        findings = await compare(broker, needed_topology(settings))
    console = Console()
    for finding in findings:
        detail = f": {finding.detail}" if finding.detail else ""
        console.print(
            f"{finding.kind} {finding.name} is {finding.state}{detail}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
    return all(finding.state == "as expected" for finding in findings)
