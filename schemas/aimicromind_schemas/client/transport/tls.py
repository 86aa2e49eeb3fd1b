"""Find the remedy for a connection that failed in TLS: a certificate, a name or a port is wrong."""

import asyncio
import ssl
from collections.abc import Iterator
from typing import Final
from urllib.parse import parse_qs, urlsplit

from yarl import URL

from aimicromind_schemas.client.errors import BrokerTlsRefused
from aimicromind_schemas.client.transport.peer import port_of

# Query parameters that aiormq obeys. `no_verify_ssl` switches verification off.
_PARAMETERS: Final = {"cafile", "capath", "cadata", "certfile", "keyfile", "no_verify_ssl"}
_SETTING: Final = "AIMICROMIND_AMQP_"
_TRUST: Final = (
    f"trust the CA that signed it, by {_SETTING}CA_FILE, or by `tls` where a program connects"
)
_NAME: Final = f"use a host name of its certificate in {_SETTING}URL"
_SHOW: Final = (
    "show a certificate that it accepts, by "
    f"{_SETTING}CLIENT_CERTIFICATE, or by `tls` where a program connects"
)
_PORT: Final = f"name its port for TLS in {_SETTING}URL, or begin the address with amqp://"
# X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL.
_OTHER_NAME: Final = {62, 64}
# Reasons for a peer that answers without TLS: from OpenSSL 3.2 on, and before.
_NO_TLS: Final = {"RECORD_LAYER_FAILURE", "WRONG_VERSION_NUMBER"}
_ALERT_WITHIN_S: Final = 2.0


def says_tls(url: str) -> bool:
    """Return whether the query of an address holds TLS parameters, which aiormq would obey."""
    return bool(parse_qs(urlsplit(url).query, keep_blank_values=True).keys() & _PARAMETERS)


async def tls_refusal(
    error: BaseException, url: URL, tls: ssl.SSLContext | None
) -> BrokerTlsRefused | None:
    """Return an error with its remedy for a connection that failed in TLS.

    Args:
        error: What `connect` raised.
        url: The address.
        tls: The context of the connection; None for the system's certificates.

    Returns:
        None where another try may succeed, or where the address is not `amqps://`.
    """
    if url.scheme != "amqps":
        return None
    host, port = url.host or "", port_of(url)
    refusal = _refusal(error, f"{host}:{port}")
    was_reset = any(isinstance(cause, ConnectionError) for cause in _causes(error))
    if refusal is None and was_reset and tls is not None:
        # RFC 8446, 4.4.2.4: a server may reject our certificate after our side of the handshake.
        # Bytes written meanwhile cause a reset, often before the alert is read. A connection that
        # writes nothing receives the alert.
        try:
            async with asyncio.timeout(_ALERT_WITHIN_S):
                reader, writer = await asyncio.open_connection(host, port, ssl=tls)
                try:
                    await reader.read(1)
                finally:
                    writer.close()
        except OSError as alert:
            refusal = _refusal(alert, f"{host}:{port}")
    return refusal


def _refusal(error: BaseException, where: str) -> BrokerTlsRefused | None:
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                remedy = _NAME if cause.verify_code in _OTHER_NAME else _TRUST
                return BrokerTlsRefused(where, cause.verify_message, remedy)
            case ssl.SSLError(reason=str(reason)) if "ALERT" in reason:
                # The other side rejects our certificate.
                return BrokerTlsRefused(where, _words(reason), _SHOW)
            case ssl.SSLError(reason=str(reason)) if reason in _NO_TLS:
                return BrokerTlsRefused(where, _words(reason), _PORT)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _words(reason: str) -> str:
    return reason.lower().replace("_", " ")
