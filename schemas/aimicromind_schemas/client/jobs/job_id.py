"""Make ids of jobs that say when they were made: UUIDs of version 7 (RFC 9562).

The `end` of such a job is found by its time, whoever asks for it and whichever library made the
UUID. A job may have any other id: then its `end` takes longer to find.
"""

from datetime import UTC, datetime, timedelta
from os import urandom
from time import time_ns
from typing import Final
from uuid import UUID

_VERSION: Final = 7
# The first 48 bits are milliseconds since 1970.
_AFTER_TIME_BITS: Final = 80
_VERSION_AT, _VARIANT_AT = 76, 62
_RANDOM: Final = ~((0xF << _VERSION_AT) | (0b11 << _VARIANT_AT))
_FIXED: Final = (_VERSION << _VERSION_AT) | (0b10 << _VARIANT_AT)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_9999_MS: Final = 253_402_300_799_000


def new_job_id() -> str:
    """Return an id of its own: the time in milliseconds, and 74 random bits."""
    random = int.from_bytes(urandom(10)) & _RANDOM
    return str(UUID(int=time_ns() // 1_000_000 << _AFTER_TIME_BITS | _FIXED | random))


def made_at(job_id: str) -> datetime | None:
    """Return when an id was made, by the clock of its maker.

    Returns:
        The time, aware; None where the id says none, or one that has not come yet.
    """
    try:
        uuid = UUID(job_id)
    except ValueError:
        return None
    milliseconds = uuid.int >> _AFTER_TIME_BITS
    if uuid.version != _VERSION or milliseconds > _YEAR_9999_MS:
        return None
    made = _EPOCH + timedelta(milliseconds=milliseconds)
    return made if made <= datetime.now(UTC) else None
