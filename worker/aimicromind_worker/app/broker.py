"""Turn settings into the connection to the broker, and into what has to be there."""

from contextlib import AbstractAsyncContextManager
from random import Random, random

from aimicromind_schemas import Names
from aimicromind_worker.amqp.connection import BrokerConnection, connect
from aimicromind_worker.amqp.topology import Retention, Topology, topology
from aimicromind_worker.app.broker_settings import BrokerSettings

# Each process has an order of its own, so that the workers of a pool use all nodes of a cluster.
_ORDER = random()  # noqa: S311 - spreads load


def needed_topology(settings: BrokerSettings) -> Topology:
    """Return the exchanges, queues and streams that the settings require on the broker."""
    log = Retention(settings.events_log_max_age, int(settings.events_log_max_bytes))
    return topology(
        Names(settings.prefix),
        log if settings.events_log else None,
        Retention(settings.journal_max_age, int(settings.journal_max_bytes)),
        settings.jobs_max_length,
        settings.events_log_partitions,
    )


def broker_connection(
    settings: BrokerSettings, name: str
) -> AbstractAsyncContextManager[BrokerConnection]:
    """Return a connection to the broker, which the caller opens and closes as a context.

    Args:
        settings: The broker's addresses, TLS and heartbeat.
        name: The name in the broker's list of connections.

    Raises:
        SettingsInvalid: A certificate can no longer be read.
    """
    order = Random(_ORDER)  # noqa: S311 - spreads load
    urls = order.sample(settings.broker_urls, len(settings.broker_urls))
    return connect(urls, name, settings.heartbeat, settings.broker_tls)
