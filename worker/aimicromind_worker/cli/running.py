"""Run a worker as a process: the command `run`, and `demo` to try it out."""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs

import asyncio
import gc
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
    from aimicromind_worker.app.settings import Settings
    from aimicromind_worker.telemetry.otel import SpanExport
    from aimicromind_worker.telemetry.tracing import Tracer

_SWITCH_INTERVAL_S = 0.001
_DRAIN_PART = 0.97
# Above twice the events that may be in flight, without copies: they are no garbage.
_SEARCHED_AFTER_OBJECTS = 5_000
_EXPORT_WITHIN_S = 1.0
_ASKS_FOR_SPANS = (
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)


@click.command()
def run() -> None:
    """Run a worker until SIGTERM; then finish what fits in the grace period.

    /livez, /readyz and /metrics on the health port report its condition.
    """
    import structlog

    from aimicromind_worker.app.setting_origins import given_values, unknown_names
    from aimicromind_worker.app.settings import Settings
    from aimicromind_worker.telemetry import logs
    from aimicromind_worker.telemetry.health import AddressUnusable
    from aimicromind_worker.telemetry.tracing import Tracer

    settings = read(Settings, warns=False)
    logs.set_up(settings.log_level, settings.log_format)
    for unknown in unknown_names(given_values(os.environ)):
        meant = {"did_you_mean": unknown.meant} if unknown.meant else {}
        structlog.get_logger().warning("setting.unknown", name=unknown.name, **meant)

    export = _span_export(os.environ)
    provider = export.provider if export else None
    tracer = Tracer(provider, settings.base_url + settings.prediction_path)
    grace = _GracePeriod(settings.drain_seconds * _DRAIN_PART)
    # A thread that reads a long job holds the event loop for up to this interval.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        run_async(_work(settings, tracer, grace))
    except AddressUnusable as error:
        fail(str(error), WRONG_USE)
    if export:
        export.close(timedelta(seconds=min(_EXPORT_WITHIN_S, grace.left_s)))
    # The interpreter takes 0.2 s and more to free its objects: that is part of the grace period.
    sys.stderr.flush()
    os._exit(0)


class _GracePeriod:
    """Time from the first signal to the exit of the process."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._ends_at = inf

    @property
    def left_s(self) -> float:
        """Seconds until the process exits; infinite before `begin`."""
        return self._ends_at - monotonic()

    def begin(self) -> None:
        """Exit once the time is over, also while the broker does not answer."""
        if self._ends_at == inf:
            self._ends_at = monotonic() + self._limit_s
            asyncio.get_running_loop().call_later(self._limit_s, _exit_undrained)


async def _work(settings: "Settings", tracer: "Tracer", grace: _GracePeriod) -> None:
    """Run the worker and its health endpoints until a signal."""
    from aimicromind_worker.app.worker import Worker
    from aimicromind_worker.telemetry.health import answering_probes

    worker = Worker(settings, tracer=tracer)

    def stop() -> None:
        grace.begin()
        worker.stop()

    # A full garbage collection stops all streams: 25 ms for what the imports made, which stays.
    gc.freeze()
    gc.set_threshold(_SEARCHED_AFTER_OBJECTS)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    async with answering_probes(
        settings.health_host,
        settings.health_port,
        worker.condition.why_not_live,
        worker.condition.why_not_ready,
        lambda: {"events": worker.event_counts.of_refusals()},
        worker.metrics.text,
    ):
        await worker.run()


def _exit_undrained() -> Never:
    """Exit at once; the broker redelivers the jobs that are left."""
    import structlog

    structlog.get_logger().warning("drain.overran")
    os._exit(0)


def _span_export(environment: Mapping[str, str]) -> "SpanExport | None":
    """Open the exporters that OpenTelemetry's variables ask for; None without any."""
    import structlog

    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    to_nobody = environment.get("OTEL_TRACES_EXPORTER") == "none"
    if disabled or to_nobody or not any(map(environment.get, _ASKS_FOR_SPANS)):
        return None
    log = structlog.get_logger()
    try:
        from aimicromind_worker.telemetry.otel import ExporterMissing, SpanExport
    except ModuleNotFoundError as error:
        remedy = "pip install 'aimicromind-worker[otel]'"
        log.warning("tracing.unavailable", missing=error.name, remedy=remedy)
        return None
    try:
        return SpanExport(environment)
    except (ExporterMissing, ValueError) as error:
        log.warning("tracing.unavailable", reason=str(error))
        return None


@click.command()
@click.option("--flow", "flows", multiple=True, help="Flow of the server in AIMICROMIND_BASE_URL.")
@click.option("--question", default="What can you do?", show_default=True, help="Its question.")
def demo(flows: tuple[str, ...], question: str) -> None:
    """Show a worker at work: broker, scripted endpoint, worker and five jobs, in one command.

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
        fail("--flow needs AIMICROMIND_BASE_URL, and AIMICROMIND_BASE_URL needs --flow", WRONG_USE)
    try:
        as_expected = run_async(run_demo(terminal.console(), flows, question))
    except asyncio.CancelledError:
        fail("stopped", FAILED)
    except BrokerDidNotStart as error:
        fail(str(error), NO_BROKER)
    if not as_expected:
        sys.exit(FAILED)
