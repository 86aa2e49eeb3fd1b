"""Declare, show and compare exchanges and queues, for the `topology` commands."""

from dataclasses import asdict

from aimicromind_worker.amqp.declaring import compare, declare
from aimicromind_worker.amqp.differences import ways_out
from aimicromind_worker.app.broker import broker_connection, needed_topology
from aimicromind_worker.app.broker_settings import BrokerSettings
from aimicromind_worker.ops.terminal import say, say_json

_CONNECTION = "aimicromind-worker topology"


async def declare_all(settings: BrokerSettings) -> None:
    """Declare all exchanges and queues.

    Raises:
        TopologyDiffers: An object exists with other arguments.
        DeclarationRefused: The user lacks a permission.
    """
    wanted = needed_topology(settings)
    async with broker_connection(settings, _CONNECTION) as connection:
        await declare(connection, wanted)
    counts = f"{len(wanted.exchanges)} exchanges and {len(wanted.queues)} queues"
    say(f"{counts} exist as needed")


def show_all(settings: BrokerSettings, *, as_json: bool) -> None:
    """Print the needed exchanges and queues."""
    wanted = needed_topology(settings)
    if as_json:
        say_json(asdict(wanted))
        return
    for exchange in wanted.exchanges:
        say(f"exchange {exchange.name} ({exchange.type})")
    for queue in wanted.queues:
        say(f"queue {queue.name}")
        for source, key, _ in queue.bindings:
            say(f"  bound to {source} with {key}" if key else f"  bound to {source}")
        for argument, value in queue.arguments.items():
            say(f"  {argument} = {value}")


async def check_all(settings: BrokerSettings) -> bool:
    """Compare the broker's exchanges and queues with the needed ones.

    Returns:
        Whether everything is as needed.
    """
    async with broker_connection(settings, _CONNECTION) as connection:
        findings = await compare(connection, needed_topology(settings))
    for finding in findings:
        detail = f": {finding.detail}" if finding.detail else ""
        say(f"{finding.kind} {finding.name} is {finding.state}{detail}")
    if any(finding.is_in_the_way for finding in findings):
        say(f"The broker does not change existing objects. {ways_out(findings)}.", err=True)
    return all(finding.state == "as expected" for finding in findings)
