"""What followers, results and late joins cost a client: `python -m benchmarks.coming_back`."""

from functools import partial
from typing import Any, Final

import click

from benchmarks.clients.late import late
from benchmarks.clients.many import many
from benchmarks.clients.results import results
from benchmarks.pools.options import Measure, compare, compared

_PARTS: Final = ("many", "stuck", "results", "late")
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
@click.option("--foreign", default=1_000_000, show_default=True, help="Events of others, late.")
@click.option("--going-on", default=2000, show_default=True, help="Further ones a second, late.")
@click.option("--joins", default=20, show_default=True, help="Late joins one after the other.")
@click.option("--together", default=5000, show_default=True, help="Late joins at once.")
@compared
def main(  # noqa: PLR0913 - one for each option
    *,
    only: tuple[str, ...],
    counts: tuple[int, ...],
    stuck: int,
    tokens: int,
    rate: int,
    endings: int,
    foreign: int,
    going_on: int,
    joins: int,
    together: int,
    **options: Any,  # noqa: ANN401 - of click
) -> None:
    """Measure many followers of one client process, some of them stuck, and results."""
    follow = partial(many, tokens=tokens, rate=rate)
    most = max(counts)
    parts: dict[str, list[Measure]] = {
        "many": [partial(follow, followers=count, stuck=0) for count in sorted(counts)],
        "stuck": [partial(follow, followers=most, stuck=most * stuck // _PERCENT)],
        "results": [partial(results, endings=endings)],
        "late": [partial(late, foreign=foreign, rate=going_on, joins=joins, together=together)],
    }
    compare([it for part in only or _PARTS for it in parts[part]], **options)


if __name__ == "__main__":
    main()
