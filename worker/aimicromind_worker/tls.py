"""CA files and client certificates → what TLS connections are made with."""

import ssl
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator


def context(ca_file: Path | None, client_certificate: Path | None) -> ssl.SSLContext:
    """Return whom to trust and what to show; the other side's name is always verified.

    Args:
        ca_file: Certificates to trust; None: those of the system.
        client_certificate: PEM file with certificate and key.

    Raises:
        OSError: A file cannot be read, or is no such PEM file.
    """
    made = ssl.create_default_context(cafile=ca_file)
    if client_certificate is not None:
        _show(made, client_certificate)
    return made


def _show(connections: ssl.SSLContext, client_certificate: Path) -> None:
    # Without a password OpenSSL would ask for that of an encrypted key on the terminal.
    connections.load_cert_chain(client_certificate, password="")


def _is_ca_file(path: Path) -> Path:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:
        raise ValueError("is no PEM file of certificates that can be read") from error
    return path


def _is_client_certificate(path: Path) -> Path:
    try:
        _show(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), path)
    except OSError as error:
        raise ValueError("is no PEM file with a certificate and its key, not encrypted") from error
    return path


CaFile = Annotated[Path, AfterValidator(_is_ca_file)]
"""A file of certificates that can be used."""

ClientCertificate = Annotated[Path, AfterValidator(_is_client_certificate)]
"""A file with a certificate and its key that can be used."""
