from contextlib import ExitStack

import pytest

from aimicromind_worker.core.job.admission import Ticket
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.state import JobState
from aimicromind_worker.jobs.quarantine import Quarantine
from tests.support.builders import a_ticket


def suspect(crashes: int, calls: int = 0) -> Ticket:
    return a_ticket(MessageFacts(carried=JobState(crashes=crashes, calls=calls)))


HEALTHY = suspect(0)
SUSPECT = suspect(1)
LAST_CHANCE = suspect(2)


@pytest.mark.parametrize(
    ("running", "job", "admitted"),
    [
        ([], LAST_CHANCE, True),
        ([HEALTHY, HEALTHY], LAST_CHANCE, True),
        ([SUSPECT], LAST_CHANCE, False),
        ([LAST_CHANCE], LAST_CHANCE, False),
        ([LAST_CHANCE], SUSPECT, False),
        ([LAST_CHANCE], HEALTHY, True),
        ([SUSPECT, SUSPECT], SUSPECT, True),
        ([SUSPECT], suspect(1, calls=2), True),
        ([suspect(1, calls=2)], SUSPECT, True),
    ],
)
def test_job_of_the_last_chance_shares_its_worker_with_no_suspect(
    running: list[Ticket],
    job: Ticket,
    admitted: bool,  # noqa: FBT001 - given by pytest
) -> None:
    quarantine = Quarantine()
    with ExitStack() as stack:
        for each in running:
            assert stack.enter_context(quarantine.admitted(each))

        assert stack.enter_context(quarantine.admitted(job)) is admitted


def test_job_of_the_last_chance_that_has_just_been_lost_waits_outside_first() -> None:
    quarantine = Quarantine()
    for crashes, admitted_at_once in ((1, True), (2, False)):
        job = a_ticket(MessageFacts(redelivered=True, failures_before=crashes))
        with quarantine.admitted(job) as admitted:
            assert admitted is admitted_at_once


def test_place_is_free_again_when_a_job_has_left() -> None:
    quarantine = Quarantine()
    for job in (LAST_CHANCE, SUSPECT, LAST_CHANCE, HEALTHY, LAST_CHANCE):
        with quarantine.admitted(job) as admitted:
            assert admitted


def test_job_that_was_turned_away_takes_no_place() -> None:
    quarantine = Quarantine()
    with quarantine.admitted(SUSPECT):
        with quarantine.admitted(LAST_CHANCE) as admitted:
            assert not admitted
        with quarantine.admitted(SUSPECT) as admitted:
            assert admitted
