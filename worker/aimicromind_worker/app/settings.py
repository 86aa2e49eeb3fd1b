"""Read the settings of the worker from environment variables, `.env` and a folder of secrets.

The command line reads them once; other modules get plain arguments.
"""

import math
import os
import re
from datetime import timedelta
from typing import Final, Self
from urllib.parse import urlsplit

from pydantic import ByteSize, Field, SecretStr, ValidationInfo, field_validator

from aimicromind_worker.app.broker_settings import (
    AGE_UNITS_S,
    ENV_PREFIX,
    RENEWABLE,
    SECRETS_DIR,
    BrokerSettings,
    Bytes,
    Seconds,
    SettingsInvalid,
    check_url,
)
from aimicromind_worker.tls import CaFile, ClientCertificate

# The rest of the consumer timeout is for the wait before a job runs, and for confirms after it.
_HELD_PART = 0.8
_WAITING_PART = 0.1

EVERYDAY: Final = frozenset(
    {
        "amqp_url",
        "prefix",
        "amqp_ca_file",
        "events_log",
        "events_log_max_age",
        "jobs_max_length",
        "log_level",
        "log_format",
        "base_url",
        "api_key",
        "ca_file",
        "concurrency",
        "max_calls",
        "attempt_timeout_seconds",
        "job_lifetime_seconds",
        "idle_timeout_seconds",
        "recovery_seconds",
        "drain_seconds",
        "health_port",
        "management_url",
    }
)
"""Settings that an installation sets or should know; docs/settings.md lists them first."""

# Clocks of producers, workers and broker may differ by up to this.
_CLOCK_SLACK_S = 900
_HEADER_WORD = re.compile(r"[\x21-\x7e]*")
_API_PATH = re.compile(r"/api/v\d+(?=/|$)", re.IGNORECASE)


class Settings(BrokerSettings):
    """Settings of the worker. Each is read from `AIMICROMIND_<NAME>`."""

    base_url: str
    """Address of the AiMicromind server, http:// or https://, without the API path."""

    api_key: SecretStr | None = None
    """API key of the server."""

    prediction_path: str = "/api/v1/prediction/{chatflowId}"
    """Path of the prediction endpoint; must contain `{chatflowId}`."""

    concurrency: int = Field(32, ge=1, le=2000)
    """Jobs that this worker runs at the same time."""

    max_calls: int = Field(3, ge=1, le=100)
    """Most prediction calls begun for one job. The first one that is lost with its worker does
    not count."""

    attempt_timeout_seconds: Seconds = 600
    """Longest time of one attempt."""

    job_lifetime_seconds: Seconds = Field(3600, validate_default=True)
    """Longest time of a job, from its first delivery to a worker."""

    connect_timeout_seconds: Seconds = 10
    """Longest wait for a connection to the server."""

    first_byte_timeout_seconds: Seconds = 30
    """Longest wait for the response headers of a flow that streams."""

    idle_timeout_seconds: Seconds = 180
    """Longest silence within a stream; heartbeats count as silence."""

    consumer_timeout_seconds: Seconds = Field(1800, validate_default=True)
    """The broker's `consumer_timeout`, which cannot be read over AMQP: longest time that a consumer
    may keep a message. A job that needs longer waits on the broker between its attempts."""

    recovery_seconds: float = Field(60, ge=0, le=3600)
    """Longest wait for an answer that the server saves after its stream broke off. The API key must
    be allowed to read messages. 0 switches that off."""

    drain_seconds: Seconds = 25
    """Time from SIGTERM to the end of the process."""

    health_host: str = "0.0.0.0"  # noqa: S104 - probes come from outside the container
    """Interface on which /livez, /readyz and /metrics answer."""

    health_port: int = Field(8080, ge=0, le=65_535)
    """Port of /livez, /readyz and /metrics, one for each worker of a machine. 0 takes a free one,
    which the log names."""

    max_job_bytes: Bytes = ByteSize(8 * 1024 * 1024)
    """Largest job."""

    max_held_bytes: ByteSize = Field(ByteSize(256 * 1024 * 1024), validate_default=True)
    """Most bytes of jobs that this worker holds at the same time, at least MAX_JOB_BYTES. A job
    beyond that is requeued, and the worker takes jobs one by one for a while."""

    max_frame_bytes: Bytes = ByteSize(4 * 1024 * 1024)
    """Largest server-sent event. A larger one is published without its data, or fails the job."""

    max_answer_bytes: Bytes = ByteSize(8 * 1024 * 1024)
    """Largest text of an answer, as JSON."""

    ca_file: CaFile | None = None
    """Certificates to trust for the server, instead of the system's."""

    client_certificate: ClientCertificate | None = None
    """PEM file with certificate and key that the server asks for."""

    def renewed(self) -> Self:
        """Return the settings with the secrets read again, if they are files.

        Raises:
            SettingsInvalid: A secret is missing, empty or invalid.
        """
        if not os.environ.get(SECRETS_DIR):
            return self
        now = self.read(**self._overrides)
        # While a file is written, it may be empty or missing.
        if self.api_key is not None and not (now.api_key and now.api_key.get_secret_value()):
            raise SettingsInvalid([f"{ENV_PREFIX}API_KEY: its file is empty, write the key to it"])
        return self.model_copy(update={name: getattr(now, name) for name in RENEWABLE})

    @property
    def hold(self) -> timedelta:
        """Longest time that a worker keeps a job before it publishes it again with a delay."""
        return timedelta(seconds=self.consumer_timeout_seconds * _HELD_PART)

    @property
    def patience(self) -> timedelta:
        """Longest time that a job waits in a worker before it runs, or goes back to the broker."""
        return timedelta(seconds=self.consumer_timeout_seconds * _WAITING_PART)

    @field_validator("job_lifetime_seconds")
    @classmethod
    def _is_remembered(cls, seconds: float, info: ValidationInfo) -> float:
        max_age = info.data.get("journal_max_age", "1Y")
        needed_s = math.ceil(seconds) + _CLOCK_SLACK_S
        if int(max_age[:-1]) * AGE_UNITS_S[max_age[-1]] < needed_s:
            raise ValueError(
                "is longer than the journal keeps a job, with 15 minutes for clocks: set "
                f"{ENV_PREFIX}JOURNAL_MAX_AGE to {needed_s}s at least"
            )
        return seconds

    @field_validator("consumer_timeout_seconds")
    @classmethod
    def _has_room_for_an_attempt(cls, seconds: float, info: ValidationInfo) -> float:
        attempt_s = info.data.get("attempt_timeout_seconds", 0.0)
        if attempt_s > seconds * _HELD_PART:
            raise ValueError(
                f"must be at least {attempt_s / _HELD_PART:g} seconds, to hold one attempt: "
                f"lower {ENV_PREFIX}ATTEMPT_TIMEOUT_SECONDS, or raise the broker's consumer_timeout"
            )
        return seconds

    @field_validator("api_key")
    @classmethod
    def _is_one_word(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not _HEADER_WORD.fullmatch(key.get_secret_value()):
            raise ValueError("must be visible ASCII characters, without spaces or line ends")
        return key

    @field_validator("max_held_bytes")
    @classmethod
    def _holds_a_job(cls, held: ByteSize, info: ValidationInfo) -> ByteSize:
        job = info.data.get("max_job_bytes", 0)
        if held < job:
            raise ValueError(
                f"must be at least {job} bytes, to hold one job: "
                f"raise it, or lower {ENV_PREFIX}MAX_JOB_BYTES"
            )
        return held

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        check_url(url, ("http", "https"))
        parts = urlsplit(url)
        if parts.username is not None:
            raise ValueError("must hold no user or password: use AIMICROMIND_API_KEY")
        folder = _API_PATH.split(parts.path)[0].rstrip("/")
        if parts.query or parts.fragment or folder != parts.path.rstrip("/"):
            right = f"{parts.scheme}://{parts.netloc}{folder}"
            raise ValueError(f"must be the server's address alone, without the API path: {right}")
        return url.rstrip("/?#")

    @field_validator("prediction_path")
    @classmethod
    def _names_the_flow(cls, path: str) -> str:
        if not path.startswith("/") or "{chatflowId}" not in path:
            raise ValueError("must begin with / and contain {chatflowId}")
        return path
