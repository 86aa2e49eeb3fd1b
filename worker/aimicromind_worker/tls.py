"""Build TLS contexts from CA files and client certificates, and check those files."""

import ssl
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator


def context(ca_file: Path | None, client_certificate: Path | None) -> ssl.SSLContext:
    """Return the context of client connections, which always verify the server's name.

    Args:
        ca_file: Certificates to trust; None for those of the system.
        client_certificate: PEM file with certificate and key.

    Raises:
        OSError: A file cannot be read, or is no such PEM file.
    """
    made = ssl.create_default_context(cafile=ca_file)
    if client_certificate is not None:
        _load(made, client_certificate)
    return made


def _load(tls: ssl.SSLContext, client_certificate: Path) -> None:
    # Without a password, OpenSSL asks on the terminal for that of an encrypted key.
    tls.load_cert_chain(client_certificate, password="")


def _is_ca_file(path: Path) -> Path:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:
        raise ValueError("is no PEM file of certificates that can be read: name one") from error
    return path


def _is_client_certificate(path: Path) -> Path:
    try:
        _load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), path)
    except OSError as error:
        raise ValueError(
            "is no PEM file with a certificate and its unencrypted key: name one"
        ) from error
    return path


CaFile = Annotated[Path, AfterValidator(_is_ca_file)]
"""PEM file of certificates, checked to be readable."""

ClientCertificate = Annotated[Path, AfterValidator(_is_client_certificate)]
"""PEM file with a certificate and its key, checked to be readable."""
