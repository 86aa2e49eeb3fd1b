"""Options of the commands that compare versions, and the turns in which they are measured."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from benchmarks.pools.pool import Site, site
from benchmarks.pools.rows import Row, Table
from benchmarks.pools.versions import Version, versions

Measure = Callable[[Site, Version], Awaitable[Sequence[Row]]]
"""Measures one version in one turn."""

CACHE: Final = click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the checkout of REVISION in this folder, and use it if it is there.",
)
_OPTIONS: Final = (
    click.option("--beside", metavar="REVISION", help="Measure this revision of git, too."),
    CACHE,
    click.option("--amqp", metavar="URL", help="Use this broker; a private one by default."),
    click.option("--turns", default=1, show_default=True, help="Number of turns."),
)


def compared(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options `--beside`, `--cache`, `--amqp` and `--turns` to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def compare(measures: Sequence[Measure], **options: Any) -> None:  # noqa: ANN401 - of click
    """Measure all versions in turns, one measure after the other, and print the table.

    Args:
        measures: Each is called once for a version and turn.
        **options: The values of the options that `compared` adds.
    """
    with versions(options["beside"], options["cache"]) as found:
        table = asyncio.run(_measured(measures, found, options["amqp"], options["turns"]))
    print(table.markdown())


async def _measured(
    measures: Sequence[Measure], found: Sequence[Version], amqp_url: str | None, turns: int
) -> Table:
    table = Table()
    async with site(amqp_url) as on:
        for measure in measures:
            for number in range(turns):
                # The order alternates, because a machine may warm up.
                for version in found if number % 2 == 0 else reversed(found):
                    rows = await measure(on, version)
                    table.add(version.column, rows)
                    for row in rows:
                        value = "-" if row.value is None else f"{row.value:,.2f}"
                        click.echo(f"{version.column}: {row.what}: {value}", err=True)
    return table
