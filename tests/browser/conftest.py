"""The stage of each browser test is that of integration tests."""

from tests.integration.conftest import connection, endpoint, no_certificates, stage

__all__ = ["connection", "endpoint", "no_certificates", "stage"]
