"""What chats cost each other, and the order of their jobs: `python -m benchmarks.chats`."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import click

from benchmarks.pools.hot_chat import hot_chat
from benchmarks.pools.options import Measure, compare, compared
from benchmarks.pools.order import WAYS, Way, order
from benchmarks.pools.pool import Site
from benchmarks.pools.rows import Row
from benchmarks.pools.versions import NOW, Version
from benchmarks.pools.waiting import waiting

_PARTS: Final = ("waiting", "hot", "order")
_HOT_WORKERS: Final = (2, 3)
_ORDER_WORKERS: Final = (2, 3, 8)


@click.command()
@click.option("--only", type=click.Choice(_PARTS), multiple=True, help="Measure only this part.")
@click.option(
    "--waiting", "counts", multiple=True, default=(60, 1000), show_default=True, help="Jobs."
)
@click.option("--busy", default=30, show_default=True, help="Chats with a long job, at most 32.")
@click.option("--shorts", default=20, show_default=True, help="Short jobs beside the waiting ones.")
@click.option("--hot-jobs", default=500, show_default=True, help="Jobs of the one chat.")
@click.option("--jobs", default=10_000, show_default=True, help="Jobs for each way of submission.")
@click.option("--jobs-before", default=600, show_default=True, help="The same for REVISION.")
@click.option("--within", default=300.0, show_default=True, help="Most seconds of one measurement.")
@compared
def main(  # noqa: PLR0913 - one for each option
    *,
    only: tuple[str, ...],
    counts: tuple[int, ...],
    busy: int,
    shorts: int,
    hot_jobs: int,
    jobs: int,
    jobs_before: int,
    within: float,
    **options: Any,  # noqa: ANN401 - of click
) -> None:
    """Measure other chats beside waiting jobs, a chat with many jobs, and the order of jobs."""
    parts: dict[str, list[Measure]] = {
        "waiting": [partial(waiting, count=count, chats=busy, shorts=shorts) for count in counts],
        "hot": [
            partial(hot_chat, workers=workers, jobs=hot_jobs, within_s=within)
            for workers in _HOT_WORKERS
        ],
        "order": list(_orders(jobs, jobs_before, within)),
    }
    compare([it for part in only or _PARTS for it in parts[part]], **options)


def _orders(jobs: int, jobs_before: int, within_s: float) -> Iterator[Measure]:
    """Yield the measurements of order. The jobs of a way are divided among the pools."""

    async def measure(way: Way, workers: int, site: Site, version: Version) -> list[Row]:
        whole = jobs if version == NOW else jobs_before
        return await order(site, version, way, workers, whole // len(_ORDER_WORKERS), within_s)

    for way in WAYS:
        for workers in _ORDER_WORKERS:
            yield partial(measure, way, workers)


if __name__ == "__main__":
    main()
