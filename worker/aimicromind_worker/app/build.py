"""Turn settings into what calls the endpoint, and into the limits of a job."""

from collections.abc import Callable
from datetime import timedelta

import httpx

from aimicromind_worker.app.settings import Settings
from aimicromind_worker.http.endpoint import Endpoint
from aimicromind_worker.http.saved_messages import SavedMessages
from aimicromind_worker.runs.limits import Limits
from aimicromind_worker.runs.recovery import Recovery


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
