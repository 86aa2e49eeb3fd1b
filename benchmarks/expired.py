"""How fast jobs that expired in the queue are ended: `python -m benchmarks.expired`."""

from functools import partial
from typing import Any

import click

from benchmarks.pools.expired import expired
from benchmarks.pools.options import compare, compared


@click.command()
@click.option("--jobs", default=10_000, show_default=True)
@click.option("--within", default=300.0, show_default=True, help="Most seconds of one measurement.")
@compared
def main(*, jobs: int, within: float, **options: Any) -> None:  # noqa: ANN401 - of click
    """Put jobs on a queue without workers until they expire, then start one worker."""
    compare([partial(expired, jobs=jobs, within_s=within)], **options)


if __name__ == "__main__":
    main()
