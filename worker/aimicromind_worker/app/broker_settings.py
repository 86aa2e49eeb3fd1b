"""Read the settings that every command needs: broker, names, logs, and where secrets are."""

import os
import ssl
from collections.abc import Iterator
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
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from aimicromind_schemas import MOST_PARTITIONS, PARTITIONS
from aimicromind_schemas.client.transport.tls import says_tls
from aimicromind_worker.tls import CaFile, ClientCertificate, context

ENV_PREFIX = "AIMICROMIND_"
SECRETS_DIR = "AIMICROMIND_SECRETS_DIR"
RENEWABLE = ("amqp_url", "api_key")
"""Settings that a running worker reads again from the folder of secrets."""

_TLS_SETTINGS = f"{ENV_PREFIX}AMQP_CA_FILE and {ENV_PREFIX}AMQP_CLIENT_CERTIFICATE"

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Bytes = Annotated[ByteSize, Field(ge=1024, le=8 * 1024 * 1024)]
MaxAge = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}[YMDhms]$")]
AGE_UNITS_S = {"s": 1, "m": 60, "h": 3600, "D": 86_400, "M": 30 * 86_400, "Y": 365 * 86_400}
_LEAST_STREAM_BYTES = 1_000_000
StreamBytes = Annotated[ByteSize, Field(ge=_LEAST_STREAM_BYTES)]

RETIRED: Final = {
    "MAX_ATTEMPTS": f"it is called {ENV_PREFIX}MAX_CALLS now: set that instead",
    "ENDPOINT_CHAT_ID": "it is no setting now, because each call has its own chatId: remove it",
}
"""Names of settings that are refused, with the reason."""


class SettingsInvalid(Exception):
    """Settings are missing or invalid; the text names each of them, never a value."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))


class BrokerSettings(BaseSettings):
    """Settings of every command that connects to the broker."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    amqp_url: Annotated[tuple[Secret[str], ...], NoDecode] = Field(min_length=1)
    """Broker address, amqp:// or amqps://. Several, separated by commas, are tried one by one, each
    process in an order of its own."""

    prefix: str = Field("aimicromind", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    """First word of every exchange and queue name."""

    heartbeat_seconds: int = Field(12, ge=2, le=60)
    """Interval of AMQP heartbeats."""

    amqp_ca_file: CaFile | None = None
    """Certificates to trust for the broker (amqps://), instead of the system's."""

    amqp_client_certificate: ClientCertificate | None = None
    """PEM file with certificate and key that the broker asks for."""

    events_log: bool = True
    """Whether the broker keeps an event log for consumers that come late."""

    events_log_max_age: MaxAge = "24h"
    """How long the event log keeps events, in the broker's notation: 24h, 7D. Fixed once the log
    exists: to change it, delete the log with its events."""

    events_log_max_bytes: StreamBytes = ByteSize(2_000_000_000)
    """Most bytes of the event log, over all partitions. Fixed once the log exists."""

    events_log_partitions: int = Field(PARTITIONS, ge=1, le=MOST_PARTITIONS)
    """Number of streams of the event log; a chat's events are in one of them. Fixed once the log
    exists."""

    journal_max_age: MaxAge = "7D"
    """How long the journal and the endings keep messages: longer than a job lives. Fixed once they
    exist."""

    journal_max_bytes: StreamBytes = ByteSize(2_000_000_000)
    """Most bytes of the journal and of the endings, each. Fixed once they exist."""

    jobs_max_length: int = Field(0, ge=0, le=100_000_000)
    """Most jobs in the queue; the broker nacks more of them to their producers. 0: any number.
    Fixed once the queue exists."""

    management_url: Secret[str] | None = None
    """Address of RabbitMQ's management API, http:// or https:// with user and password; only
    `doctor` and `status` use it."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level of log lines."""

    log_format: Literal["auto", "json", "pretty"] = "auto"
    """Form of log lines; `auto` is pretty on a terminal and JSON elsewhere."""

    _overrides: dict[str, object] = PrivateAttr(default_factory=dict)

    @property
    def broker_urls(self) -> list[str]:
        """The broker's addresses with their passwords: never log or print them."""
        return [url.get_secret_value() for url in self.amqp_url]

    @property
    def broker_tls(self) -> ssl.SSLContext | None:
        """The TLS context for amqps://; None without such an address.

        Raises:
            SettingsInvalid: A file cannot be read any more.
        """
        if all(urlsplit(url).scheme != "amqps" for url in self.broker_urls):
            return None
        try:
            return context(self.amqp_ca_file, self.amqp_client_certificate)
        except OSError as error:
            raise SettingsInvalid(
                [f"the files of {_TLS_SETTINGS} cannot be read: correct them"]
            ) from error

    @property
    def heartbeat(self) -> timedelta:
        """Interval of AMQP heartbeats."""
        return timedelta(seconds=self.heartbeat_seconds)

    @field_validator("*", mode="before")
    @classmethod
    def _without_space_around(cls, value: object) -> object:
        # Files and shells leave a newline at the end. No setting has outer space.
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
            check_url(url.get_secret_value(), ("amqp", "amqps"))
            if says_tls(url.get_secret_value()):
                raise ValueError(f"must say nothing of TLS after the ?: use {_TLS_SETTINGS}")
        return urls

    @field_validator("management_url")
    @classmethod
    def _is_management(cls, url: Secret[str] | None) -> Secret[str] | None:
        if url is not None:
            check_url(url.get_secret_value(), ("http", "https"))
        return url

    @field_validator("events_log_partitions")
    @classmethod
    def _have_room(cls, partitions: int, info: ValidationInfo) -> int:
        most_bytes = info.data.get("events_log_max_bytes", ByteSize(0))
        if most_bytes and most_bytes < partitions * _LEAST_STREAM_BYTES:
            raise ValueError(f"needs 1MB for each partition in {ENV_PREFIX}EVENTS_LOG_MAX_BYTES")
        return partitions

    @classmethod
    def read(cls, **overrides: object) -> Self:
        """Read the settings.

        Args:
            overrides: Values that win over those of the environment.

        Raises:
            SettingsInvalid: Settings are wrong; the text names each, a remedy, and no value.
        """
        folder = os.environ.get(SECRETS_DIR)
        if folder and not Path(folder).is_dir():
            raise SettingsInvalid(
                [f"{SECRETS_DIR} is not the path of a folder: correct or remove it"]
            )
        given = _given_names(folder)
        retired = [
            f"{ENV_PREFIX}{name}: {why}"
            for name, why in RETIRED.items()
            if f"{ENV_PREFIX}{name}" in given
        ]
        if retired:
            raise SettingsInvalid(retired)
        try:
            settings = cls(_secrets_dir=folder, **overrides)  # type: ignore[arg-type]
        except ValidationError as error:
            raise SettingsInvalid(list(_sentences(error))) from None
        except SettingsError as error:
            raise SettingsInvalid([f"a file of {SECRETS_DIR} cannot be read: {error}"]) from None
        settings._overrides = overrides
        return settings


def _given_names(secrets_folder: str | None) -> set[str]:
    """Return the names that have a value in the environment, `.env` or the folder of secrets."""
    given = {name for name, value in os.environ.items() if value}
    given |= {name for name, value in dotenv_values(".env").items() if value}
    if secrets_folder:
        given |= {path.name for path in Path(secrets_folder).iterdir()}
    return {name.upper() for name in given}


def check_url(url: str, schemes: tuple[str, ...]) -> None:
    """Check that an address has one of these schemes and a host.

    Raises:
        ValueError: The address has another scheme, or no host.
    """
    try:
        parts = urlsplit(url)
        known = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        # The text of this error may quote user and password.
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
