"""Turn settings into the values and adapters that the other packages take."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from random import Random, random

import httpx

from aimicromind_schemas import Names
from aimicromind_worker.amqp.connection import BrokerConnection, connect
from aimicromind_worker.amqp.topology import Retention, Topology, topology
from aimicromind_worker.app.broker_settings import BrokerSettings
from aimicromind_worker.app.settings import Settings
from aimicromind_worker.http.endpoint import Endpoint
from aimicromind_worker.http.saved_messages import SavedMessages
from aimicromind_worker.runs.limits import Limits
from aimicromind_worker.runs.recovery import Recovery

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


def endpoint(now: Callable[[], Settings]) -> Endpoint:
    """Return the address, key and timeouts of the prediction endpoint.

    Args:
        now: A function that returns the settings with the current key.
    """
    settings = now()

    def key() -> str | None:
        api_key = now().api_key
        return api_key.get_secret_value() if api_key else None

    return Endpoint(
        base_url=settings.base_url,
        prediction_path=settings.prediction_path,
        api_key=key,
        connect_timeout=timedelta(seconds=settings.connect_timeout_seconds),
        first_byte_timeout=timedelta(seconds=settings.first_byte_timeout_seconds),
        max_answer_bytes=settings.max_answer_bytes,
        ca_file=settings.ca_file,
        client_certificate=settings.client_certificate,
    )


def recovery(settings: Settings, client: httpx.AsyncClient) -> Recovery:
    """Return the look-up of answers that the endpoint saved.

    Args:
        settings: The endpoint's address and the longest wait for an answer.
        client: The HTTP client of the endpoint.
    """
    memory = SavedMessages(
        client,
        settings.base_url,
        settings.max_answer_bytes,
        has_key=settings.api_key is not None,
    )
    return Recovery(memory, timedelta(seconds=settings.recovery_seconds))


def limits(settings: Settings) -> Limits:
    """Return the limits of one job."""
    return Limits(
        max_calls=settings.max_calls,
        attempt_timeout=timedelta(seconds=settings.attempt_timeout_seconds),
        hold=settings.hold,
        max_frame_bytes=settings.max_frame_bytes,
        max_answer_bytes=settings.max_answer_bytes,
    )
