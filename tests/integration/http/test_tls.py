from datetime import timedelta
from pathlib import Path

import pytest

from aimicromind_schemas import FailureKind
from aimicromind_testing import ScriptedEndpoint
from aimicromind_worker.core.endpoint.errors import EndpointUnavailable, TlsRefused
from tests.integration.calls import call_once, failure_of
from tests.support.http import JSON_ANSWER, Certificate, expired, raw_server, self_signed

pytestmark = pytest.mark.usefixtures("no_certificates")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("certificates"), "server")


async def test_certificate_that_nobody_trusts_is_refused(certificate: Certificate) -> None:
    async with raw_server(JSON_ANSWER, certificate.server()) as server:
        failure = await failure_of(f"https://127.0.0.1:{server.port}")

        assert server.requests == []
    assert type(failure) is TlsRefused
    assert failure.kind == FailureKind.TLS_ERROR
    assert not failure.request_sent


async def test_certificate_of_the_ca_file_is_accepted(certificate: Certificate) -> None:
    async with raw_server(JSON_ANSWER, certificate.server()) as server:
        where = f"https://127.0.0.1:{server.port}"

        assert await call_once(where, ca_file=certificate.certificate) == b'{"text":"ok"}'


async def test_certificate_of_another_host_is_refused(certificate: Certificate) -> None:
    async with raw_server(JSON_ANSWER, certificate.server()) as server:
        failure = await failure_of(
            f"https://localhost:{server.port}", ca_file=certificate.certificate
        )

    assert type(failure) is TlsRefused


async def test_certificate_whose_time_is_over_is_refused(
    certificate: Certificate, tmp_path: Path
) -> None:
    old = expired(certificate, tmp_path)
    async with raw_server(JSON_ANSWER, old.server()) as server:
        failure = await failure_of(f"https://127.0.0.1:{server.port}", ca_file=old.certificate)

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


async def test_client_certificate_is_shown_to_a_server_that_asks(
    certificate: Certificate, tmp_path: Path
) -> None:
    mine = self_signed(tmp_path, "client")
    asks = certificate.server()
    asks.load_verify_locations(mine.certificate)
    asks.verify_mode = asks.verify_mode.CERT_REQUIRED
    async with raw_server(JSON_ANSWER, asks) as server:
        where, trusted = f"https://127.0.0.1:{server.port}", {"ca_file": certificate.certificate}

        without = await failure_of(where, **trusted)
        body = await call_once(where, **trusted, client_certificate=mine.both)

    assert without.kind in {FailureKind.TLS_ERROR, FailureKind.ENDPOINT_UNAVAILABLE}
    assert body == b'{"text":"ok"}'
