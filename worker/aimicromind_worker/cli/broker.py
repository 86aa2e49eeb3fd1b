"""Parse the commands `topology` and `doctor`."""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs

import sys

import click

from aimicromind_worker.cli.outcomes import FAILED, read, run_async, run_now


@click.group()
def topology() -> None:
    """Declare, show or compare exchanges and queues of the broker."""


@topology.command("declare")
def topology_declare() -> None:
    """Declare all exchanges and queues; those that exist stay as they are."""
    from aimicromind_worker.app.broker_settings import BrokerSettings
    from aimicromind_worker.ops.topology_report import declare_all

    run_async(declare_all(read(BrokerSettings)))


@topology.command("show")
@click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")
def topology_show(as_json: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Show the needed exchanges and queues, without a connection to the broker."""
    from aimicromind_worker.app.broker_settings import BrokerSettings
    from aimicromind_worker.ops.topology_report import show_all

    settings = read(BrokerSettings)
    run_now(lambda: show_all(settings, as_json=as_json))


@topology.command("check")
def topology_check() -> None:
    """Compare the broker's exchanges and queues with the needed ones, and create none.

    Bindings cannot be read over AMQP and are not compared.
    """
    from aimicromind_worker.app.broker_settings import BrokerSettings
    from aimicromind_worker.ops.topology_report import check_all

    if not run_async(check_all(read(BrokerSettings))):
        sys.exit(FAILED)


@click.command()
@click.option("--flow", help="Also check this flow of the endpoint.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON lines, for programs.")
def doctor(flow: str | None, as_json: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Find problems with broker, endpoint, permissions and settings, and show remedies.

    It changes nothing. With AIMICROMIND_MANAGEMENT_URL it also checks the queues of
    subscribers, which AMQP does not show.

    \b
    Example:
      aimicromind-worker doctor --flow 91975cee-5a0f
    """  # noqa: D301 - click's mark for lines that stay as they are
    from aimicromind_worker.app.settings import Settings
    from aimicromind_worker.ops.doctor import examine

    if not run_async(examine(read(Settings), flow, as_json=as_json)):
        sys.exit(FAILED)
