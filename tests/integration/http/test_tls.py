"""The endpoint is reached by TLS, and each side looks whom it has before it."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest

from aimicromind_schemas import FailureKind
from aimicromind_testing import ScriptedEndpoint
from aimicromind_worker.core.endpoint.errors import EndpointUnavailable, TlsRefused
from tests.integration.calls import call_once, failure_of
from tests.support.certificates import Authority
from tests.support.http import JSON_ANSWER, raw_server

pytestmark = pytest.mark.usefixtures("no_certificates")


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates") / "ours")


async def test_certificate_that_nobody_trusts_is_refused(ours: Authority) -> None:
    async with raw_server(JSON_ANSWER, ours.serving()) as server:
        failure = await failure_of(f"https://127.0.0.1:{server.port}")

        assert server.requests == []
    assert type(failure) is TlsRefused
    assert failure.kind == FailureKind.TLS_ERROR
    assert not failure.request_sent


async def test_certificate_of_the_ca_file_is_accepted(ours: Authority) -> None:
    async with raw_server(JSON_ANSWER, ours.serving()) as server:
        where = f"https://127.0.0.1:{server.port}"

        assert await call_once(where, ca_file=ours.ca_file) == b'{"text":"ok"}'


async def test_certificate_of_another_host_is_refused(ours: Authority) -> None:
    async with raw_server(JSON_ANSWER, ours.serving()) as server:
        failure = await failure_of(f"https://localhost:{server.port}", ca_file=ours.ca_file)

    assert type(failure) is TlsRefused


async def test_certificate_whose_time_is_over_is_refused(ours: Authority) -> None:
    old = ours.serving(until=datetime(2020, 1, 1, tzinfo=UTC))
    async with raw_server(JSON_ANSWER, old) as server:
        failure = await failure_of(f"https://127.0.0.1:{server.port}", ca_file=ours.ca_file)

        assert server.requests == []
    assert type(failure) is TlsRefused
    assert "expired" in str(failure)


async def test_handshake_that_never_ends_is_waited_for_no_longer_than_a_connection() -> None:
    async with raw_server(b"") as server:
        failure = await failure_of(
            f"https://127.0.0.1:{server.port}", connect_timeout=timedelta(seconds=0.3)
        )

    assert type(failure) is EndpointUnavailable
    assert not failure.request_sent


async def test_server_without_tls_is_refused(endpoint: ScriptedEndpoint) -> None:
    failure = await failure_of(endpoint.url.replace("http:", "https:"))

    assert type(failure) is TlsRefused


async def test_client_certificate_is_shown_to_a_server_that_asks(ours: Authority) -> None:
    asks = ours.serving()
    asks.verify_mode = ssl.CERT_REQUIRED
    async with raw_server(JSON_ANSWER, asks) as server:
        where, trusted = f"https://127.0.0.1:{server.port}", {"ca_file": ours.ca_file}

        without = await failure_of(where, **trusted)
        body = await call_once(where, **trusted, client_certificate=ours.client("client"))

    assert without.kind in {FailureKind.TLS_ERROR, FailureKind.ENDPOINT_UNAVAILABLE}
    assert body == b'{"text":"ok"}'
