"""The commands that run a worker: for work, and to see it work."""

# ruff: noqa: PLC0415 - each command imports what it needs when it runs

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from datetime import timedelta
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Never

import click

from aimicromind_worker.cli.outcomes import FAILED, NO_BROKER, WRONG_USE, fail, read, run_async

if TYPE_CHECKING:
    from aimicromind_worker.telemetry.tracing import Tracer

_TURN_S = 0.001
_LEAVES_AT = 0.97
_SPANS_WITHIN_S = 1.0
_ASKS_FOR_SPANS = (
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)


@click.command()
def run() -> None:
    """Run a worker until SIGTERM; then finish what fits in the grace period.

    How it is and what it does is told over HTTP: /livez, /readyz, /metrics on the health port.
    """
    import structlog

    from aimicromind_worker.app.settings import Settings, unknown_names
    from aimicromind_worker.app.worker import Worker
    from aimicromind_worker.telemetry import logs
    from aimicromind_worker.telemetry.health import AddressUnusable, answering_probes

    settings = read(Settings)
    logs.set_up(settings.log_level, settings.log_format)
    for name in unknown_names(os.environ):
        structlog.get_logger().warning("setting.unknown", name=name)

    tracer = _tracer(os.environ, settings.base_url + settings.prediction_path)
    leaves_at = inf

    async def work() -> None:
        worker = Worker(settings, tracer=tracer)
        loop = asyncio.get_running_loop()

        def stop() -> None:
            nonlocal leaves_at
            leaves_at = min(leaves_at, monotonic() + settings.drain_seconds * _LEAVES_AT)
            worker.stop()
            # A broker that says nothing must not hold us to the end of the grace period.
            loop.call_later(settings.drain_seconds * _LEAVES_AT, _leave)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        told = worker.condition
        async with answering_probes(
            settings.health_host,
            settings.health_port,
            told.why_not_live,
            told.why_not_ready,
            lambda: {"events": worker.event_counts.of_refusals()},
            worker.metrics.text,
        ):
            await worker.run()

    # A long job is read beside the event loop, which has to wait so long for its turn each time.
    sys.setswitchinterval(_TURN_S)
    try:
        run_async(work())
    except AddressUnusable as error:
        fail(str(error), WRONG_USE)
    tracer.close(timedelta(seconds=min(_SPANS_WITHIN_S, leaves_at - monotonic())))
    # To free every object takes 0.2 s, more on a busy machine, and all of the grace is promised.
    sys.stderr.flush()
    os._exit(0)


@click.command()
@click.option("--flow", "flows", multiple=True, help="Flow of the server in AIMICROMIND_BASE_URL.")
@click.option("--question", default="What can you do?", show_default=True, help="What to ask it.")
def demo(flows: tuple[str, ...], question: str) -> None:
    """See it work: broker, scripted endpoint, worker and five jobs, in one command.

    Uses the broker in AIMICROMIND_AMQP_URL, else the machine's RabbitMQ as a private node,
    else Docker. Uses the server in AIMICROMIND_BASE_URL, if set, with the flows given.
    """
    from aimicromind_worker.ops import terminal

    try:
        from aimicromind_testing import BrokerDidNotStart
        from aimicromind_worker.ops.demo import run_demo
    except ModuleNotFoundError as error:
        if error.name != "aimicromind_testing":
            raise
        fail("the demo needs: pip install 'aimicromind-worker[demo]'", FAILED)

    if bool(flows) != bool(os.environ.get("AIMICROMIND_BASE_URL")):
        fail("--flow and AIMICROMIND_BASE_URL go together", WRONG_USE)
    try:
        as_expected = run_async(run_demo(terminal.console(), flows, question))
    except asyncio.CancelledError:
        fail("stopped", FAILED)
    except BrokerDidNotStart as error:
        fail(str(error), NO_BROKER)
    if not as_expected:
        sys.exit(FAILED)


def _tracer(environment: Mapping[str, str], url_template: str) -> "Tracer":
    """Return who keeps spans: OpenTelemetry, where its own variables ask for it."""
    import structlog

    from aimicromind_worker.telemetry.tracing import Untraced

    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    to_nobody = environment.get("OTEL_TRACES_EXPORTER") == "none"
    if disabled or to_nobody or not any(map(environment.get, _ASKS_FOR_SPANS)):
        return Untraced()
    log = structlog.get_logger()
    try:
        from aimicromind_worker.telemetry.otel import NoSuchExporter, Traces
    except ModuleNotFoundError as error:
        remedy = "pip install 'aimicromind-worker[otel]'"
        log.warning("tracing.unavailable", missing=error.name, remedy=remedy)
        return Untraced()
    try:
        return Traces(environment, url_template)
    except (NoSuchExporter, ValueError) as error:
        log.warning("tracing.unavailable", reason=str(error))
        return Untraced()


def _leave() -> Never:
    """End the process at once; the broker takes back what it still holds."""
    import structlog

    structlog.get_logger().warning("drain.overran")
    os._exit(0)
