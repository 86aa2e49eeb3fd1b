"""Try the chart's alerts and dashboard: `python -m tools.monitoring`.

A Prometheus scrapes two workers once a second, on a broker and an endpoint of their own, while jobs
of several kinds run. Each query of the dashboard, and what each alert compares, must return a
number. Two alerts must fire and end.

The exit code is 1 if a query returns nothing or an alert does not do so, and 2 if a program is
missing.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import click

from tools.monitoring.chart import NoHelm, Query, Rendered, check_rules, rendered
from tools.monitoring.pool import WORKERS, Pool
from tools.monitoring.prometheus import NotInstalled, Prometheus, program

# Workers count queues every 15 s, and BacklogGrows compares with the time before the window.
_DATA_WITHIN_S: Final = 90.0
_ALERT_WITHIN_S: Final = 120.0
_WIDTH: Final = 36


@click.command(help=__doc__)
@click.option("--window", default=20, show_default=True, help="Seconds in place of each range.")
@click.option("--hold", default=3, show_default=True, help="Seconds in place of each `for`.")
def main(window: int, hold: int) -> None:
    try:
        promtool = program("promtool")
        program("prometheus")
        chart = rendered()
    except (NotInstalled, NoHelm) as missing:
        print(missing, file=sys.stderr)
        sys.exit(2)
    with tempfile.TemporaryDirectory(prefix="try-monitoring-") as folder:
        print(f"promtool check rules: {check_rules(promtool, chart.groups, Path(folder))}")
        good = asyncio.run(_tried(chart, Path(folder), window, hold))
    sys.exit(0 if good else 1)


async def _tried(chart: Rendered, folder: Path, window_s: int, hold_s: int) -> bool:
    rules = chart.rules_file(folder, window_s, hold_s)
    async with Pool.running(folder) as pool, _cluster_page(chart) as cluster:
        pods = {
            address: {"namespace": chart.namespace, "pod": f"{chart.deployment}-{number}"}
            for number, address in enumerate(await pool.addresses())
        }
        async with Prometheus.scraping({**pods, cluster: {}}, rules, folder) as prometheus:
            print(f"ranges and offsets are {window_s} s here, `for` is {hold_s} s")
            print("kube_* are from a page of this command, all else is from the workers\n")
            all_there = await _all_have_data(prometheus, chart.queries(window_s))
            ended = await _two_alerts_fire_and_end(prometheus, pool)
            print(f"\njobs submitted: {pool.submitted}")
    return all_there and ended


async def _all_have_data(prometheus: Prometheus, queries: list[Query]) -> bool:
    """Print for each query whether it returns numbers; wait for them together."""
    until = time.monotonic() + _DATA_WITHIN_S
    nothing = 0
    for query in queries:
        left_s = max(1.0, until - time.monotonic())
        values = await prometheus.has_values(query.expression, left_s)
        nothing += not values
        shown = f"{len(values)} series, {max(values):.4g}" if values else "NOTHING"
        print(f"{query.source:{_WIDTH}} {shown:20} {query.expression}", flush=True)
    print(f"\nqueries: {len(queries)}, of which return nothing: {nothing}\n")
    return not nothing


async def _two_alerts_fire_and_end(prometheus: Prometheus, pool: Pool) -> bool:
    dead, down = "AimicromindDeadLetters", "AimicromindEndpointDown"
    good = await _alert(prometheus, dead, "while jobs fail", firing=True)
    pool.fails = False
    good &= await _alert(prometheus, dead, "since no job fails", firing=False)
    good &= await _alert(prometheus, down, "while the endpoint answers", firing=False)
    await pool.endpoint.stop()
    good &= await _alert(prometheus, down, "since the endpoint stopped", firing=True)
    await pool.endpoint.start()
    return good & await _alert(prometheus, down, "since it is back", firing=False)


async def _alert(prometheus: Prometheus, name: str, when: str, *, firing: bool) -> bool:
    began = time.monotonic()
    came = await prometheus.alert_is(name, firing=firing, within_s=_ALERT_WITHIN_S)
    took_s = time.monotonic() - began
    state = "fires" if firing is came else "does not fire"
    print(f"{name} {state}, {took_s:.1f} s {when}" + ("" if came else ": WRONG"), flush=True)
    return came


@asynccontextmanager
async def _cluster_page(chart: Rendered) -> AsyncIterator[str]:
    """Serve what kube-state-metrics would of the Deployment, and yield `host:port`."""
    which = f'{{namespace="{chart.namespace}",deployment="{chart.deployment}"}}'
    names = ("kube_deployment_spec_replicas", "kube_deployment_status_replicas_ready")
    body = "".join(f"# TYPE {name} gauge\n{name}{which} {WORKERS}\n" for name in names)
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {len(body)}\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"{head}connection: close\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"{host}:{port}"


if __name__ == "__main__":
    main()
