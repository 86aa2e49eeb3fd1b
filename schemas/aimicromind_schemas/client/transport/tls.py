"""Tell what TLS failed by: certificates and addresses that are wrong, not a broker that is away."""

import asyncio
import ssl
from collections.abc import Iterator
from typing import Final
from urllib.parse import parse_qs, urlsplit

from yarl import URL

from aimicromind_schemas.client.errors import BrokerTlsRefused

# One of them switches off all verification.
_PARAMETERS: Final = {"cafile", "capath", "cadata", "certfile", "keyfile", "no_verify_ssl"}
_SETTING: Final = "AIMICROMIND_AMQP_"
_TRUST: Final = (
    f"trust the CA that signed it, by {_SETTING}CA_FILE, or by `tls` where a program connects"
)
_NAME: Final = f"use a name that its certificate has in {_SETTING}URL"
_SHOW: Final = (
    "show a certificate that it accepts, by "
    f"{_SETTING}CLIENT_CERTIFICATE, or by `tls` where a program connects"
)
_PORT: Final = f"name its port for TLS in {_SETTING}URL, or begin that with amqp://"
# X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL.
_OTHER_NAME: Final = {62, 64}
# What OpenSSL 3.2 calls it, and those before.
_NO_TLS: Final = {"RECORD_LAYER_FAILURE", "WRONG_VERSION_NUMBER"}
_PORT_OF_TLS: Final = 5671
_ALERT_WITHIN_S: Final = 2.0


def says_tls(url: str) -> bool:
    """Return whether an address says something of TLS after its `?`, which aiormq would follow."""
    return bool(parse_qs(urlsplit(url).query, keep_blank_values=True).keys() & _PARAMETERS)


async def tls_refusal(
    error: BaseException, url: URL, tls: ssl.SSLContext | None
) -> BrokerTlsRefused | None:
    """Return what is to be done about a connection that failed by TLS.

    Args:
        error: What it failed by.
        url: Where it was to lead.
        tls: What it was made with, unless the address said that.

    Returns:
        None where waiting may help, or where it was no TLS.
    """
    if url.scheme != "amqps":
        return None
    host, port = url.host or "", url.port or _PORT_OF_TLS
    refusal = _refusal(error, f"{host}:{port}")
    was_reset = any(isinstance(cause, ConnectionError) for cause in _causes(error))
    if refusal is None and was_reset and tls is not None:
        # RFC 8446, 4.4.2.4: a server may refuse our certificate after our side of the handshake.
        # What we write meanwhile has the connection reset, often before we read why.
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
                # So the other side says what it has against ours.
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
