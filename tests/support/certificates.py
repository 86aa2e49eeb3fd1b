"""A CA of a test's own, and what it signs, as files that settings name."""

import ssl
from datetime import datetime
from pathlib import Path
from typing import Final

import trustme

HOST: Final = "127.0.0.1"


class Authority:
    """Signs certificates.

    Attributes:
        ca_file: Its own.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._ca = trustme.CA()
        self.ca_file = folder / "ca.crt"
        self._ca.cert_pem.write_to_path(self.ca_file)

    def server(self, *names: str, until: datetime | None = None) -> tuple[Path, Path]:
        """Sign a certificate for these hosts; give its file and that of its key."""
        issued = self._ca.issue_cert(*names, not_after=until)
        certificate, key = self._folder / "server.crt", self._folder / "server.key"
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        return certificate, key

    def serving(self, until: datetime | None = None) -> ssl.SSLContext:
        """Return the context of a server on loopback."""
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.ca_file)
        made.load_cert_chain(*self.server(HOST, until=until))
        return made

    def client(self, name: str) -> Path:
        """Sign a client's certificate; give the file with it and its key."""
        both = self._folder / f"{name}.pem"
        issued = self._ca.issue_cert(f"{name}.example.org")
        issued.private_key_and_cert_chain_pem.write_to_path(both)
        return both
