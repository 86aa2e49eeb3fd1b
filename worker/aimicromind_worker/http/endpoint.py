"""Where predictions are made, how to get in, and whether the API answers there."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import httpx
from typing_extensions import override


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where predictions are made, and how to get in.

    Attributes:
        base_url: Scheme, host and perhaps a path, without a slash at the end.
        prediction_path: With `{chatflowId}` in it.
        api_key: Gives what is sent as a bearer token, for each request; never shown.
        connect_timeout: For a TCP and TLS connection.
        first_byte_timeout: For the response headers of a flow that streams.
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
    """What came of asking for `/api/v1/ping`: the server says `pong`."""

    http_status: int
    body: bytes = field(repr=False)

    @property
    def is_of_the_api(self) -> bool:
        """Whether the API may have answered; a page or a missing path is somebody else's."""
        return self.http_status != httpx.codes.NOT_FOUND and self.body.lstrip()[:1] != b"<"
