"""Everything an operator can set: environment variables, `.env`, and a folder of secrets.

Read once, by the command line; inner code gets plain arguments.
"""

import math
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import (
    ByteSize,
    Field,
    PrivateAttr,
    Secret,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from aimicromind_schemas.client.transport.tls import says_tls
from aimicromind_worker.tls import CaFile, ClientCertificate, context

ENV_PREFIX = "AIMICROMIND_"
_SECRETS_DIR = "AIMICROMIND_SECRETS_DIR"
_HELD_PART = 0.8
_RENEWABLE = ("amqp_url", "api_key")
_TLS_SETTINGS = f"{ENV_PREFIX}AMQP_CA_FILE and {ENV_PREFIX}AMQP_CLIENT_CERTIFICATE"

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

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Bytes = Annotated[ByteSize, Field(ge=1024, le=8 * 1024 * 1024)]
MaxAge = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}[YMDhms]$")]
_AGE_UNITS_S = {"s": 1, "m": 60, "h": 3600, "D": 86_400, "M": 30 * 86_400, "Y": 365 * 86_400}
# Clocks of producers, workers and broker may differ by so much.
_CLOCK_SLACK_S = 900
StreamBytes = Annotated[ByteSize, Field(ge=1_000_000)]


_HEADER_WORD = re.compile(r"[\x21-\x7e]*")
_API_PATH = re.compile(r"/api/v\d+(?=/|$)", re.IGNORECASE)
_OTHERS = f"{ENV_PREFIX}GATEWAY_"
_RETIRED = {
    "MAX_ATTEMPTS": f"it is called {ENV_PREFIX}MAX_CALLS now: set that instead",
    "ENDPOINT_CHAT_ID": "it is gone, each call has a chatId of its own: remove it",
}


class SettingsInvalid(Exception):
    """A setting is missing or makes no sense; the text names each, never its value."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))


class BrokerSettings(BaseSettings):
    """What every command that talks to the broker needs."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    amqp_url: Annotated[tuple[Secret[str], ...], NoDecode] = Field(min_length=1)
    """Broker address, amqp:// or amqps://. Several, separated by commas, are tried in order."""

    prefix: str = Field("aimicromind", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    """First word of every exchange and queue name."""

    heartbeat_seconds: int = Field(12, ge=2, le=60)
    """Interval of AMQP heartbeats."""

    amqp_ca_file: CaFile | None = None
    """Certificates to trust for the broker (amqps://), instead of the system's."""

    amqp_client_certificate: ClientCertificate | None = None
    """PEM file with certificate and key that the broker asks for."""

    events_log: bool = True
    """Whether the broker keeps an event log for those who come late."""

    events_log_max_age: MaxAge = "24h"
    """How long the event log keeps events, as the broker writes it: 24h, 7D. Fixed once the log
    exists: to change it, delete the log and what is in it."""

    events_log_max_bytes: StreamBytes = ByteSize(2_000_000_000)
    """How much the event log keeps, over all partitions. Fixed once the log exists."""

    events_log_partitions: int = Field(1, ge=1, le=1)
    """Streams that the event log consists of. This version knows 1."""

    journal_max_age: MaxAge = "7D"
    """How long the journal and the endings keep what workers must remember: longer than a job
    lives. Fixed once they exist."""

    journal_max_bytes: StreamBytes = ByteSize(2_000_000_000)
    """How much the journal and the endings keep, each. Fixed once they exist."""

    jobs_max_length: int = Field(0, ge=0, le=100_000_000)
    """Jobs that may wait in the queue; the broker refuses more to their producers. 0: any number.
    Fixed once the queue exists."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level of log lines."""

    log_format: Literal["auto", "json", "pretty"] = "auto"
    """Form of log lines; `auto` is pretty on a terminal and JSON elsewhere."""

    _overrides: dict[str, object] = PrivateAttr(default_factory=dict)

    @property
    def broker_urls(self) -> list[str]:
        """The broker's addresses, passwords included: for connecting, not for showing."""
        return [url.get_secret_value() for url in self.amqp_url]

    @property
    def broker_tls(self) -> ssl.SSLContext | None:
        """What to trust and to show; None where no address begins with amqps://.

        Raises:
            SettingsInvalid: A file cannot be used any more.
        """
        if all(urlsplit(url).scheme != "amqps" for url in self.broker_urls):
            return None
        try:
            return context(self.amqp_ca_file, self.amqp_client_certificate)
        except OSError as error:
            raise SettingsInvalid([f"the files of {_TLS_SETTINGS} cannot be read"]) from error

    @property
    def heartbeat(self) -> timedelta:
        """Interval of AMQP heartbeats."""
        return timedelta(seconds=self.heartbeat_seconds)

    @field_validator("*", mode="before")
    @classmethod
    def _without_space_around(cls, value: object) -> object:
        # Files and shells leave a newline at the end; no setting has space there.
        return value.strip() if isinstance(value, str) else value

    @field_validator("amqp_url", mode="before")
    @classmethod
    def _split_urls(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("amqp_url")
    @classmethod
    def _are_amqp(cls, urls: tuple[Secret[str], ...]) -> tuple[Secret[str], ...]:
        for url in urls:
            _check_url(url.get_secret_value(), ("amqp", "amqps"))
            if says_tls(url.get_secret_value()):
                raise ValueError(f"must say nothing of TLS after the ?: use {_TLS_SETTINGS}")
        return urls

    @classmethod
    def read(cls, **overrides: object) -> Self:
        """Read the settings.

        Args:
            overrides: Values that go before those of the environment.

        Raises:
            SettingsInvalid: Naming each setting that is wrong, its remedy, and no value.
        """
        folder = os.environ.get(_SECRETS_DIR)
        if folder and not Path(folder).is_dir():
            raise SettingsInvalid([f"{_SECRETS_DIR} names no folder"])
        given = _given_names(folder)
        retired = [
            f"{ENV_PREFIX}{name}: {why}"
            for name, why in _RETIRED.items()
            if f"{ENV_PREFIX}{name}" in given
        ]
        if retired:
            raise SettingsInvalid(retired)
        try:
            settings = cls(_secrets_dir=folder, **overrides)  # type: ignore[arg-type]
        except ValidationError as error:
            raise SettingsInvalid(list(_sentences(error))) from None
        except SettingsError as error:
            raise SettingsInvalid([f"a file of {_SECRETS_DIR} cannot be read: {error}"]) from None
        settings._overrides = overrides
        return settings


class Settings(BrokerSettings):
    """Settings of the worker. Each is read from `AIMICROMIND_<NAME>`."""

    base_url: str
    """Address of the AiMicromind server, http:// or https://, without the API path."""

    api_key: SecretStr | None = None
    """API key of the server."""

    prediction_path: str = "/api/v1/prediction/{chatflowId}"
    """Path of the prediction endpoint; must contain `{chatflowId}`."""

    concurrency: int = Field(32, ge=1, le=2000)
    """Jobs that this worker runs at a time."""

    max_calls: int = Field(3, ge=1, le=100)
    """Prediction calls begun for one job, at most. The first that is lost with its worker does
    not count."""

    attempt_timeout_seconds: Seconds = 600
    """Longest time of one attempt."""

    job_lifetime_seconds: Seconds = Field(3600, validate_default=True)
    """Longest time of a job, from when a worker first has it."""

    connect_timeout_seconds: Seconds = 10
    """Longest wait for a connection to the server."""

    first_byte_timeout_seconds: Seconds = 30
    """Longest wait for the response headers of a flow that streams."""

    idle_timeout_seconds: Seconds = 180
    """Longest silence within a stream; heartbeats count as silence."""

    consumer_timeout_seconds: Seconds = Field(1800, validate_default=True)
    """How long the broker lets a consumer keep a message: its `consumer_timeout`, which cannot be
    read over AMQP. A job that would be kept longer waits on the broker between its attempts."""

    recovery_seconds: float = Field(60, ge=0, le=3600)
    """Longest wait for an answer that the server still finishes and saves after its stream broke;
    it needs an API key that may read messages. 0 switches that off."""

    drain_seconds: Seconds = 25
    """Time from SIGTERM to the end of the process."""

    health_host: str = "0.0.0.0"  # noqa: S104 - probes come from outside the container
    """Interface on which /livez, /readyz and /metrics answer."""

    health_port: int = Field(8080, ge=0, le=65_535)
    """Port of /livez, /readyz and /metrics, one for each worker of a machine; 0 takes a free one,
    which the log names."""

    max_job_bytes: Bytes = ByteSize(8 * 1024 * 1024)
    """Largest job."""

    max_held_bytes: ByteSize = Field(ByteSize(256 * 1024 * 1024), validate_default=True)
    """Most bytes of jobs that this worker holds at a time, at least MAX_JOB_BYTES. A job for which
    there is no room goes back to the queue, and the worker takes jobs one by one for a while."""

    max_frame_bytes: Bytes = ByteSize(4 * 1024 * 1024)
    """Largest server-sent event; a larger one goes out without its data, or fails the job."""

    max_answer_bytes: Bytes = ByteSize(8 * 1024 * 1024)
    """Largest text of an answer, as JSON."""

    ca_file: CaFile | None = None
    """Certificates to trust for the server, instead of the system's."""

    client_certificate: ClientCertificate | None = None
    """PEM file with certificate and key that the server asks for."""

    management_url: Secret[str] | None = None
    """Address of RabbitMQ's management API, http:// or https:// with user and password; only
    `doctor` uses it."""

    def renewed(self) -> Self:
        """Return the same with the secrets that may change meanwhile, which are files.

        Raises:
            SettingsInvalid: They cannot be read, or make no sense.
        """
        if not os.environ.get(_SECRETS_DIR):
            return self
        now = self.read(**self._overrides)
        # A file that is just being written is empty, or not there.
        if self.api_key is not None and not (now.api_key and now.api_key.get_secret_value()):
            raise SettingsInvalid([f"{ENV_PREFIX}API_KEY is empty now"])
        return self.model_copy(update={name: getattr(now, name) for name in _RENEWABLE})

    @property
    def hold(self) -> timedelta:
        """How long a worker keeps a job; the rest is for waits before it and confirms after it."""
        return timedelta(seconds=self.consumer_timeout_seconds * _HELD_PART)

    @field_validator("job_lifetime_seconds")
    @classmethod
    def _is_remembered(cls, seconds: float, info: ValidationInfo) -> float:
        max_age = info.data.get("journal_max_age", "1Y")
        needed_s = math.ceil(seconds) + _CLOCK_SLACK_S
        if int(max_age[:-1]) * _AGE_UNITS_S[max_age[-1]] < needed_s:
            raise ValueError(
                "is longer than the journal remembers a job, clocks that differ included: set "
                f"{ENV_PREFIX}JOURNAL_MAX_AGE to {needed_s}s at least"
            )
        return seconds

    @field_validator("consumer_timeout_seconds")
    @classmethod
    def _has_room_for_an_attempt(cls, seconds: float, info: ValidationInfo) -> float:
        attempt_s = info.data.get("attempt_timeout_seconds", 0.0)
        if attempt_s > seconds * _HELD_PART:
            raise ValueError(
                f"must be at least {attempt_s / _HELD_PART:g}, to have room for one attempt: "
                f"lower {ENV_PREFIX}ATTEMPT_TIMEOUT_SECONDS, or raise the broker's consumer_timeout"
            )
        return seconds

    @field_validator("api_key")
    @classmethod
    def _is_one_word(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not _HEADER_WORD.fullmatch(key.get_secret_value()):
            raise ValueError("must be one word of visible ASCII characters, as HTTP has it")
        return key

    @field_validator("max_held_bytes")
    @classmethod
    def _holds_a_job(cls, held: ByteSize, info: ValidationInfo) -> ByteSize:
        job = info.data.get("max_job_bytes", 0)
        if held < job:
            raise ValueError(
                f"must be at least {job}, to have room for one job: "
                f"raise it, or lower {ENV_PREFIX}MAX_JOB_BYTES"
            )
        return held

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        _check_url(url, ("http", "https"))
        parts = urlsplit(url)
        if parts.username is not None:
            raise ValueError("must hold no user or password: use AIMICROMIND_API_KEY")
        folder = _API_PATH.split(parts.path)[0].rstrip("/")
        if parts.query or parts.fragment or folder != parts.path.rstrip("/"):
            right = f"{parts.scheme}://{parts.netloc}{folder}"
            raise ValueError(f"must be the server's address alone, without the API path: {right}")
        return url.rstrip("/?#")

    @field_validator("management_url")
    @classmethod
    def _is_management(cls, url: Secret[str] | None) -> Secret[str] | None:
        if url is not None:
            _check_url(url.get_secret_value(), ("http", "https"))
        return url

    @field_validator("prediction_path")
    @classmethod
    def _names_the_flow(cls, path: str) -> str:
        if not path.startswith("/") or "{chatflowId}" not in path:
            raise ValueError("must begin with / and contain {chatflowId}")
        return path


def unknown_names(environment: Mapping[str, str]) -> list[str]:
    """List the `AIMICROMIND_*` names that no setting has; most are typing errors.

    Those of the gateway, which may share the environment, are known.
    """
    known = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields} | {_SECRETS_DIR}
    return sorted(
        name
        for name in environment
        if name.upper().startswith(ENV_PREFIX)
        and not name.upper().startswith(_OTHERS)
        and name.upper() not in known
    )


def _given_names(secrets_folder: str | None) -> set[str]:
    """Return the names that have a value: in the environment, `.env`, or the folder of secrets."""
    given = {name for name, value in os.environ.items() if value}
    given |= {name for name, value in dotenv_values(".env").items() if value}
    if secrets_folder:
        given |= {path.name for path in Path(secrets_folder).iterdir()}
    return {name.upper() for name in given}


def _check_url(url: str, schemes: tuple[str, ...]) -> None:
    try:
        parts = urlsplit(url)
        known = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        # Its text may quote the host with what stands before it.
        known = False
    if not known:
        raise ValueError(f"must be a URL like {schemes[0]}://host:port")


def _sentences(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_input=False, include_url=False):
        name = f"{ENV_PREFIX}{str(problem['loc'][0]).upper()}" if problem["loc"] else "settings"
        if problem["type"] == "missing":
            yield f"{name} is not set"
        else:
            yield f"{name}: {problem['msg'].removeprefix('Value error, ')}"
