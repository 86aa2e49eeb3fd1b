import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from aimicromind_schemas import is_job_id
from aimicromind_schemas.client import new_job_id
from aimicromind_schemas.client.jobs.job_id import made_at


def test_new_id_is_a_uuid_of_version_7_and_says_when_it_was_made() -> None:
    before = datetime.now(UTC)
    made = [new_job_id() for _ in range(1_000)]
    after = datetime.now(UTC)

    assert len(set(made)) == len(made)
    for job_id in made:
        uuid = UUID(job_id)
        assert (uuid.version, str(uuid), is_job_id(job_id)) == (7, job_id, True)
        told = made_at(job_id)
        assert told is not None
        assert before - timedelta(milliseconds=1) <= told <= after


def test_ids_that_were_made_in_different_milliseconds_sort_by_time() -> None:
    made = []
    for _ in range(5):
        made.append(new_job_id())
        time.sleep(0.002)

    assert sorted(made) == made


def test_example_of_the_standard_is_read() -> None:
    """RFC 9562, appendix A.6."""
    made = made_at("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")

    assert made == datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    "job_id",
    [
        *("", "job-1", "0" * 128, "00000000-0000-0000-0000-000000000000"),
        # Versions 4 and 1.
        *("9af3e852-f5ac-4def-bfa7-aed32462b1a1", "a3d6ef76-eaa5-11f1-8ea2-02fc00000001"),
        # Late in the year 9999, and after it.
        *("e677d21f-d800-7000-8000-000000000000", "ffffffff-ffff-7fff-bfff-ffffffffffff"),
    ],
)
def test_id_that_says_no_past_time_says_none(job_id: str) -> None:
    assert made_at(job_id) is None
