import pytest

from aimicromind_schemas import FailureKind
from aimicromind_worker.telemetry import backlog
from aimicromind_worker.telemetry.backlog import QueueTotals
from aimicromind_worker.telemetry.event_counts import EventCounts
from aimicromind_worker.telemetry.metrics import Metrics
from tests.support.metrics import Samples, samples_of


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(EventCounts())


def page(metrics: Metrics) -> Samples:
    return samples_of(metrics.text().decode())


def test_number_on_the_broker_that_is_not_known_is_absent(metrics: Metrics) -> None:
    before = page(metrics)
    metrics.backlog.keep(QueueTotals(backlog=0, dead=7))

    after = page(metrics)

    assert not {"backlog_jobs", "delayed_jobs", "dead_letters"} & {name for name, _ in before}
    assert (after["backlog_jobs", ()], after["dead_letters", ()]) == (0, 7)
    assert ("delayed_jobs", ()) not in after


def test_old_number_is_not_known(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "_GOOD_FOR_S", -1.0)
    metrics.backlog.keep(QueueTotals(backlog=1))

    assert ("backlog_jobs", ()) not in page(metrics)


def test_page_requests_another_count(metrics: Metrics) -> None:
    assert not metrics.backlog.wanted.is_set()

    metrics.text()

    assert metrics.backlog.wanted.is_set()


def test_each_kind_of_dead_letter_is_there_from_the_start(metrics: Metrics) -> None:
    metrics.dead_lettered(FailureKind.TIMEOUT)

    found = page(metrics)

    kinds = {labels[0][1]: it for (name, labels), it in found.items() if "dead_lettered_t" in name}
    assert kinds == {**dict.fromkeys(FailureKind, 0.0), FailureKind.TIMEOUT: 1.0}
