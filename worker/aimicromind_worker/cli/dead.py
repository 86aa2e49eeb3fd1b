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
    from aimicromind_worker.ops.dead.commands import Order

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


def _with_queue(command: Command) -> Command:
    """Add the option that names a consumer's dead-letter queue."""
    return click.option("--queue", help="A consumer's dead-letter queue, instead of that of jobs.")(
        command
    )


def _with_choice(command: Command) -> Command:
    """Add the options that choose dead letters."""
    options = (
        click.option("--job", help="Only the job with this id, or the beginning of it."),
        click.option("--kind", help="Only those that failed with this kind, as rate_limited."),
        click.option("--flow", help="Only jobs of this flow, or the beginning of its id."),
        click.option("--older-than", type=Age(), help="Only those that failed before, as 7d."),
        click.option("--newer-than", type=Age(), help="Only those that failed since, as 2h."),
        _with_queue,
        click.option("--json", "as_json", is_flag=True, help="Write JSON lines, for programs."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _with_act(command: Command) -> Command:
    """Add the options of commands that change something."""
    options = (
        _with_choice,
        click.option("--all", "every", is_flag=True, help="All dead letters of the queue."),
        click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing."),
        click.option("--yes", is_flag=True, help="Do not ask for confirmation."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _order(chosen: Mapping[str, Any]) -> "Order":
    """Return what the options ask for, or exit because they are wrong."""
    from aimicromind_worker.core.dead_letters.dead_letter import Choice
    from aimicromind_worker.ops.dead.commands import Order

    kind, queue, every = chosen["kind"], chosen["queue"], chosen.get("every")
    # Consumers have kinds of their own.
    if kind is not None and queue is None:
        _check_kind(kind)
    choice = Choice(chosen["job"], kind, chosen["flow"], chosen["older_than"], chosen["newer_than"])
    if every is not None and choice.is_all != every:
        fail("choose dead letters by options such as --kind, or all of them by --all", WRONG_USE)
    to = chosen.get("to")
    if to is not None and queue is None:
        fail("--to needs --queue: jobs are replayed to the queue of jobs", WRONG_USE)
    return Order(
        choice,
        queue,
        to,
        as_json=chosen["as_json"],
        dry_run=chosen.get("dry_run", False),
        is_sure=chosen.get("yes", False),
    )


def _check_kind(kind: str) -> None:
    """Exit if no job can fail with this kind."""
    from aimicromind_schemas import FailureKind
    from aimicromind_worker.core.similar import nearest

    kinds = [*map(str, FailureKind), "unknown"]
    if kind not in kinds:
        near = nearest(kind, kinds)
        hint = f": did you mean {near}?" if near else "."
        fail(f"no kind is called {kind}{hint} The kinds are {', '.join(kinds)}", WRONG_USE)


@click.group()
def dead() -> None:
    """Show, replay or delete dead letters, the jobs that failed for good.

    With --queue, the same for the events in a consumer's dead-letter queue. While one of these
    commands runs, the others see no dead letters of its queue.
    """


@dead.command("list")
@_with_choice
def dead_list(**chosen: object) -> None:
    """Show dead letters, the oldest first: two lines for each.

    The ids are short. All `dead` commands take them; --json has the whole ones.

    \b
    Examples:
      aimicromind-worker dead list --kind rate_limited --newer-than 2h
      aimicromind-worker dead list --queue aimicromind.consumers.billing.dead
      aimicromind-worker dead list --json | jq -r .jobId
    """  # noqa: D301 - click's mark for lines that stay as they are
    from aimicromind_worker.app.broker_settings import BrokerSettings
    from aimicromind_worker.ops.dead.commands import list_all

    order = _order(chosen)
    run_async(list_all(read(BrokerSettings), order))


@dead.command("show")
@click.argument("job")
@click.option("--body", is_flag=True, help="Also the body, which may hold secrets.")
@_with_queue
def dead_show(job: str, body: bool, queue: str | None) -> None:  # noqa: FBT001 - click passes it by name
    """Show the dead letter JOB as JSON: why it failed, and when.

    JOB is an id, or the beginning of one.

    \b
    Example:
      aimicromind-worker dead show 5f0e7c1a --body
    """  # noqa: D301 - click's mark for lines that stay as they are
    from aimicromind_worker.app.broker_settings import BrokerSettings
    from aimicromind_worker.core.dead_letters.dead_letter import Choice
    from aimicromind_worker.ops.dead.commands import Order, show

    run_async(show(read(BrokerSettings), Order(Choice(job), queue), body=body))


@dead.command("replay")
@_with_act
@click.option("--to", help="With --queue: the queue to publish to, instead of where each was.")
def dead_replay(**chosen: object) -> None:
    """Publish dead letters again, in the order in which they failed.

    Each job gets a new id, because its old one has ended, and stays in its chat. A dead letter
    that is replayed twice runs once, thus a broken replay can be repeated. An event keeps its id,
    and may then come twice. On a terminal, the command asks first.

    \b
    Examples:
      aimicromind-worker dead replay --kind endpoint_unavailable --dry-run
      aimicromind-worker dead replay --job 5f0e7c1a
      aimicromind-worker dead replay --queue aimicromind.consumers.billing.dead --all
    """  # noqa: D301 - click's mark for lines that stay as they are
    from aimicromind_worker.app.broker_settings import BrokerSettings
    from aimicromind_worker.ops.dead.commands import replay

    order = _order(chosen)
    run_async(replay(read(BrokerSettings), order))


@dead.command("purge")
@_with_act
def dead_purge(**chosen: object) -> None:
    """Delete dead letters for good. The command asks first, with their number.

    \b
    Examples:
      aimicromind-worker dead purge --kind invalid_job --older-than 7d --dry-run
      aimicromind-worker dead purge --all --yes
    """  # noqa: D301 - click's mark for lines that stay as they are
    from aimicromind_worker.app.broker_settings import BrokerSettings
    from aimicromind_worker.ops.dead.commands import purge

    order = _order(chosen)
    run_async(purge(read(BrokerSettings), order))
