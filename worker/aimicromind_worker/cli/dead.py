"""Parse the commands for dead letters, the jobs that failed for good."""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click
from typing_extensions import override

from aimicromind_worker.cli.outcomes import WRONG_USE, fail, read, run_async

if TYPE_CHECKING:
    from aimicromind_worker.core.job.dead_letter import Choice

Command = TypeVar("Command", bound=Callable[..., Any])


class Age(click.ParamType[timedelta]):
    """Option value such as 90s, 30m, 12h or 7d."""

    name = "age"
    _units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}  # noqa: RUF012 - click's is a plain class

    @override
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        found = re.fullmatch(r"(\d{1,6})([smhd])", str(value))
        if found is None:
            self.fail("must be a whole number with s, m, h or d, such as 12h", param, ctx)
        return timedelta(**{self._units[found[2]]: int(found[1])})


def _with_choice(command: Command) -> Command:
    """Add the options that choose dead letters."""
    options = (
        click.option("--job", help="Only the job with this id."),
        click.option("--kind", help="Only jobs that failed with this kind, such as rate_limited."),
        click.option("--flow", help="Only jobs of this flow."),
        click.option("--older-than", type=Age(), help="Only jobs that failed before, such as 7d."),
        click.option("--newer-than", type=Age(), help="Only jobs that failed since, such as 2h."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _choice(chosen: Mapping[str, Any]) -> "Choice":
    from aimicromind_worker.core.job.dead_letter import Choice

    return Choice(
        chosen["job"],
        chosen["kind"],
        chosen["flow"],
        chosen["older_than"],
        chosen["newer_than"],
    )


@click.group()
def dead() -> None:
    """Show, replay or delete dead letters, the jobs that failed for good.

    While one of these commands runs, the others see no dead letters.
    """


@dead.command("list")
@_with_choice
@click.option("--json", "as_json", is_flag=True, help="Write JSON lines, for programs.")
def dead_list(as_json: bool, **chosen: object) -> None:  # noqa: FBT001 - click passes it by name
    """Show dead letters, the oldest first.

    \b
    Examples:
      aimicromind-worker dead list --kind rate_limited --newer-than 2h
      aimicromind-worker dead list --json | jq -r .jobId
    """  # noqa: D301 - click's mark for lines that stay as they are
    from aimicromind_worker.app.broker_settings import BrokerSettings
    from aimicromind_worker.ops.dead_letters import list_all

    run_async(list_all(read(BrokerSettings), _choice(chosen), as_json=as_json))


@dead.command("show")
@click.argument("job")
@click.option("--body", is_flag=True, help="Also the body, which may hold secrets.")
def dead_show(job: str, body: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Show the dead letter JOB as JSON: why it failed, and when.

    \b
    Example:
      aimicromind-worker dead show 5f0e7c1a --body
    """  # noqa: D301 - click's mark for lines that stay as they are
    from aimicromind_worker.app.broker_settings import BrokerSettings
    from aimicromind_worker.ops.dead_letters import show

    run_async(show(read(BrokerSettings), job, body=body))


@dead.command("replay")
@_with_choice
@click.option("--all", "every", is_flag=True, help="All dead letters.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON lines, for programs.")
def dead_replay(every: bool, dry_run: bool, as_json: bool, **chosen: object) -> None:  # noqa: FBT001 - click passes them by name
    """Publish dead letters as jobs again, in the order in which they failed.

    Each job gets a new id, because its old one has ended, and stays in its chat. A dead letter
    that is replayed twice runs once.

    \b
    Examples:
      aimicromind-worker dead replay --kind endpoint_unavailable --dry-run
      aimicromind-worker dead replay --job 5f0e7c1a
    """  # noqa: D301 - click's mark for lines that stay as they are
    from aimicromind_worker.app.broker_settings import BrokerSettings
    from aimicromind_worker.ops.dead_letters import replay

    choice = _choice_or_all(chosen, every=every)
    run_async(replay(read(BrokerSettings), choice, dry_run=dry_run, as_json=as_json))


@dead.command("purge")
@_with_choice
@click.option("--all", "every", is_flag=True, help="All dead letters.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON lines, for programs.")
def dead_purge(every: bool, dry_run: bool, yes: bool, as_json: bool, **chosen: object) -> None:  # noqa: FBT001 - click passes them by name
    """Delete dead letters for good.

    \b
    Examples:
      aimicromind-worker dead purge --kind invalid_job --older-than 7d --dry-run
      aimicromind-worker dead purge --all --yes
    """  # noqa: D301 - click's mark for lines that stay as they are
    from aimicromind_worker.app.broker_settings import BrokerSettings
    from aimicromind_worker.ops.dead_letters import purge

    choice = _choice_or_all(chosen, every=every)
    if not dry_run and not yes:
        click.confirm("Deleted dead letters cannot be restored. Go on?", abort=True)
    run_async(purge(read(BrokerSettings), choice, dry_run=dry_run, as_json=as_json))


def _choice_or_all(chosen: Mapping[str, Any], *, every: bool) -> "Choice":
    choice = _choice(chosen)
    if choice.is_all != every:
        fail("choose dead letters by options such as --kind, or all of them by --all", WRONG_USE)
    return choice
