"""Log that a worker takes jobs, with broker, names, server and version."""

from collections.abc import Mapping
from importlib.metadata import version

import structlog

from aimicromind_schemas.client.transport.peer import port_of
from aimicromind_worker.amqp.connection import BrokerConnection
from aimicromind_worker.app.settings import Settings

log = structlog.get_logger()


def log_ready(settings: Settings, connection: BrokerConnection) -> None:
    """Log that a worker takes jobs, and what it is connected to."""
    log.info("worker.ready", **_facts(settings, connection))


def _facts(settings: Settings, connection: BrokerConnection) -> Mapping[str, str | int]:
    """Return the facts of the line; none is secret."""
    url, told = connection.url, connection.inner.server_properties
    product = (_text(told.get(name)) for name in ("product", "version"))
    return {
        "version": version("aimicromind-worker"),
        "broker": f"{url.host}:{port_of(url)}",
        "broker_version": " ".join(filter(None, product)),
        "vhost": connection.inner.vhost,
        "prefix": settings.prefix,
        "server": settings.base_url,
        "concurrency": settings.concurrency,
    }


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
