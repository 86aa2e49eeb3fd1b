"""Settings → the plain values that the other rooms take."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import httpx

from aimicromind_schemas import Names
from aimicromind_worker.amqp.connection import BrokerConnection, connect
from aimicromind_worker.amqp.topology import Retention, Topology, topology
from aimicromind_worker.app.broker_settings import BrokerSettings
from aimicromind_worker.app.settings import Settings
from aimicromind_worker.http.endpoint import Endpoint
from aimicromind_worker.http.saved_messages import SavedMessages
from aimicromind_worker.runs.attempt import Limits
from aimicromind_worker.runs.recovery import Recovery


def needed_topology(settings: BrokerSettings) -> Topology:
    """Return what must be on the broker."""
    log = Retention(settings.events_log_max_age, int(settings.events_log_max_bytes))
    return topology(
        Names(settings.prefix),
        log if settings.events_log else None,
        Retention(settings.journal_max_age, int(settings.journal_max_bytes)),
        settings.jobs_max_length,
    )


def broker_connection(
    settings: BrokerSettings, name: str
) -> AbstractAsyncContextManager[BrokerConnection]:
    """Open a connection to the broker, under a name that operators see.

    Raises:
        SettingsInvalid: A certificate cannot be read any more.
    """
    return connect(settings.broker_urls, name, settings.heartbeat, settings.broker_tls)


def endpoint(now: Callable[[], Settings]) -> Endpoint:
    """Return where predictions are made, and how to get in.

    Args:
        now: Gives the settings with the key as it is now.
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
    """Return where answers are that nobody read, and how long to wait for one."""
    memory = SavedMessages(
        client,
        settings.base_url,
        settings.max_answer_bytes,
        has_key=settings.api_key is not None,
    )
    return Recovery(memory, timedelta(seconds=settings.recovery_seconds))


def limits(settings: Settings) -> Limits:
    """Return what one job may take."""
    return Limits(
        max_calls=settings.max_calls,
        attempt_timeout=timedelta(seconds=settings.attempt_timeout_seconds),
        hold=settings.hold,
        max_frame_bytes=settings.max_frame_bytes,
        max_answer_bytes=settings.max_answer_bytes,
    )
