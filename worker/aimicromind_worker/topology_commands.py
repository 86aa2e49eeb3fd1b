"""The `topology` commands: declare, show and compare what jobs and events need on the broker."""

from dataclasses import asdict

import click
import msgspec

from aimicromind_worker.adapters.topology import WAYS_OUT, compare, declare
from aimicromind_worker.needs import broker_connection, needed_topology
from aimicromind_worker.settings import BrokerSettings

_CONNECTION = "aimicromind-worker topology"


async def declare_all(settings: BrokerSettings) -> None:
    """Declare everything.

    Raises:
        TopologyDiffers: An object exists with other arguments.
        DeclarationRefused: The user lacks a permission.
    """
    wanted = needed_topology(settings)
    async with broker_connection(settings, _CONNECTION) as connection:
        await declare(connection, wanted)
    counts = f"{len(wanted.exchanges)} exchanges and {len(wanted.queues)} queues"
    click.echo(f"{counts} are as needed")


def show_all(settings: BrokerSettings, *, as_json: bool) -> None:
    """Show what is needed."""
    wanted = needed_topology(settings)
    if as_json:
        click.echo(msgspec.json.encode(asdict(wanted)).decode())
        return
    for exchange in wanted.exchanges:
        click.echo(f"exchange {exchange.name} ({exchange.type})")
    for queue in wanted.queues:
        click.echo(f"queue {queue.name}")
        for source, key, _ in queue.bindings:
            click.echo(f"  bound to {source} with {key}" if key else f"  bound to {source}")
        for argument, value in queue.arguments.items():
            click.echo(f"  {argument} = {value}")


async def check_all(settings: BrokerSettings) -> bool:
    """Compare what the broker has with what is needed.

    Returns:
        Whether everything is as needed.
    """
    async with broker_connection(settings, _CONNECTION) as connection:
        findings = await compare(connection, needed_topology(settings))
    for finding in findings:
        detail = f": {finding.detail}" if finding.detail else ""
        click.echo(f"{finding.kind} {finding.name} is {finding.state}{detail}")
    if any(finding.is_in_the_way for finding in findings):
        click.echo(f"The broker does not change what exists: {WAYS_OUT}.", err=True)
    return all(finding.state == "as expected" for finding in findings)
