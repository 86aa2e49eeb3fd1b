"""Parse the command `status`."""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs

import click

from aimicromind_worker.cli.outcomes import read, run_async


@click.command()
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option(
    "--every",
    type=click.FloatRange(min=1, max=3600),
    default=2.0,
    show_default=True,
    help="With --watch: seconds between two looks.",
)
@click.option("--json", "as_json", is_flag=True, help="Write a line of JSON, for programs.")
def status(watch: bool, every: float, as_json: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Show the workers, where the jobs are, dead letters by kind, and how far back logs reach.

    It takes no job: the age of a job that waits in the queue stays unknown. Numbers of jobs in
    workers are those that the workers tell. With AIMICROMIND_MANAGEMENT_URL it also shows what
    the broker counts.

    \b
    Examples:
      aimicromind-worker status
      aimicromind-worker status --watch
      aimicromind-worker status --json | jq .jobs.ready
    """  # noqa: D301 - click's mark for lines that stay as they are
    from aimicromind_worker.app.broker_settings import BrokerSettings
    from aimicromind_worker.ops.status.command import print_status

    settings = read(BrokerSettings)
    try:
        run_async(print_status(settings, as_json=as_json, every_s=every if watch else None))
    except KeyboardInterrupt:
        # The usual end of --watch.
        return
