"""Export spans with OpenTelemetry's SDK, as its own environment variables say.

The command line imports this module only where those variables ask for an exporter.
"""

import logging
import threading
from collections.abc import Mapping
from datetime import timedelta
from importlib.metadata import entry_points, version
from time import monotonic

import structlog
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from typing_extensions import override

log = structlog.get_logger()

_NAME = "aimicromind-worker"
_WARNS_EVERY_S = 60.0
_OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}


class ExporterMissing(Exception):
    """OpenTelemetry's variables name an exporter that is not installed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the exporter {name} is not installed: install its package")


class SpanExport:
    """Exports spans in threads of its own. One for the process.

    Attributes:
        provider: Keeps spans until they are exported.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Open the exporters.

        Args:
            environment: Names the exporters; the SDK reads its other variables itself.

        Raises:
            ExporterMissing: A named exporter is not installed.
            ValueError: The SDK rejects the value of a variable.
        """
        _take_over_logging()
        exporters = [_exporter(name, environment) for name in _names(environment)]
        own = Resource({"service.name": _NAME, "service.version": version(_NAME)})
        # The operator's attributes win over ours, and ours over the SDK's defaults.
        resource = Resource.create().merge(own).merge(OTELResourceDetector().detect())
        self.provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        for exporter in exporters:
            self.provider.add_span_processor(BatchSpanProcessor(exporter))

    def close(self, within: timedelta) -> None:
        """Export the remaining spans, and block for at most this time."""
        # With a collector that is down, the SDK blocks for longer than the grace period.
        closing = threading.Thread(target=self.provider.shutdown, daemon=True)
        closing.start()
        closing.join(max(0.0, within.total_seconds()))
        if closing.is_alive():
            log.warning("spans.dropped", waited_s=within.total_seconds())


class _SdkWarnings(logging.Handler):
    """Logs the SDK's warnings, one a minute at most: it repeats them with every batch."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._silent_until = 0.0

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if monotonic() >= self._silent_until:
            self._silent_until = monotonic() + _WARNS_EVERY_S
            log.warning("tracing.trouble", reason=record.getMessage())


def _take_over_logging() -> None:
    library = logging.getLogger("opentelemetry")
    library.addHandler(_SdkWarnings())
    library.propagate = False
    # This logger quotes headers that it cannot read, which may hold keys.
    logging.getLogger("opentelemetry.util.re").addFilter(_without_headers)


def _without_headers(record: logging.LogRecord) -> bool:
    record.msg, record.args = "a header of OTEL_EXPORTER_OTLP_HEADERS is not NAME=VALUE", ()
    return True


def _names(environment: Mapping[str, str]) -> list[str]:
    named = environment.get("OTEL_TRACES_EXPORTER") or "otlp"
    return [name.strip() for name in named.split(",")]


def _exporter(name: str, environment: Mapping[str, str]) -> SpanExporter:
    if name == "otlp":
        protocol = (
            environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
            or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
            or "http/protobuf"
        )
        name = _OTLP.get(protocol, protocol)
    for found in entry_points(group="opentelemetry_traces_exporter", name=name):
        exporter: SpanExporter = found.load()()
        return exporter
    raise ExporterMissing(name)
