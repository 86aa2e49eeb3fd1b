"""Address and credentials of the prediction endpoint, and what its ping answered."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import httpx
from typing_extensions import override


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address, credentials and limits of the prediction endpoint.

    Attributes:
        base_url: URL of the server, without a slash at its end.
        prediction_path: Path of a prediction call, with `{chatflowId}` in it.
        api_key: Returns the bearer token of each request; None sends none.
        connect_timeout: Longest time for TCP and TLS together.
        first_byte_timeout: Longest wait for the response headers of a flow that streams.
        max_answer_bytes: Largest JSON answer.
        ca_file: Certificates to trust instead of the system's.
        client_certificate: PEM file with certificate and key.
    """

    base_url: str
    prediction_path: str
    api_key: Callable[[], str | None]
    connect_timeout: timedelta
    first_byte_timeout: timedelta
    max_answer_bytes: int
    ca_file: Path | None = None
    client_certificate: Path | None = None

    def with_key(self, request: httpx.Request) -> httpx.Request:
        """Add the API key to a request."""
        if key := self.api_key():
            request.headers["Authorization"] = f"Bearer {key}"
        return request

    @override
    def __repr__(self) -> str:
        return f"Endpoint({self.base_url!r})"


@dataclass(frozen=True, slots=True)
class Ping:
    """The response to `/api/v1/ping`; that of the server is `pong`."""

    http_status: int
    body: bytes = field(repr=False)

    @property
    def is_of_the_api(self) -> bool:
        """Whether the API may have answered; status 404 or an HTML page is not of the API."""
        return self.http_status != httpx.codes.NOT_FOUND and self.body.lstrip()[:1] != b"<"
