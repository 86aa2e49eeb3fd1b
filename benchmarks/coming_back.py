"""What followers and results cost a client process: `python -m benchmarks.coming_back`."""

from functools import partial
from typing import Any, Final

import click

from benchmarks.clients.many import many
from benchmarks.clients.results import results
from benchmarks.pools.options import Measure, compare, compared

_PARTS: Final = ("many", "stuck", "results")
_PERCENT: Final = 100


@click.command()
@click.option("--only", type=click.Choice(_PARTS), multiple=True, help="Measure only this part.")
@click.option(
    "--followers", "counts", multiple=True, default=(1000, 5000), show_default=True, help="Jobs."
)
@click.option("--stuck", default=1, show_default=True, help="Stuck followers of the most, in %.")
@click.option("--tokens", default=7, show_default=True, help="Tokens of each job.")
@click.option("--rate", default=3000, show_default=True, help="Events a second, of all jobs.")
@click.option("--endings", default=30_000, show_default=True, help="Endings of others.")
@compared
def main(
    *,
    only: tuple[str, ...],
    counts: tuple[int, ...],
    stuck: int,
    tokens: int,
    rate: int,
    endings: int,
    **options: Any,  # noqa: ANN401 - of click
) -> None:
    """Measure many followers of one client process, some of them stuck, and results."""
    follow = partial(many, tokens=tokens, rate=rate)
    most = max(counts)
    parts: dict[str, list[Measure]] = {
        "many": [partial(follow, followers=count, stuck=0) for count in sorted(counts)],
        "stuck": [partial(follow, followers=most, stuck=most * stuck // _PERCENT)],
        "results": [partial(results, endings=endings)],
    }
    compare([it for part in only or _PARTS for it in parts[part]], **options)


if __name__ == "__main__":
    main()
