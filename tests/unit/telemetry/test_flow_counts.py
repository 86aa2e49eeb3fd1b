"""Counters by flow: a label for each flow that answers, and for no made-up one."""

from aimicromind_worker.telemetry.event_counts import EventCounts
from aimicromind_worker.telemetry.flow_counts import MOST_FLOWS
from aimicromind_worker.telemetry.metrics import Metrics
from tests.support.metrics import samples_of


def counted(metrics: Metrics, name: str, **labels: str) -> float | None:
    page = samples_of(metrics.text().decode())
    return page.get((f"{name}_total", tuple(sorted(labels.items()))))


def test_flow_that_answers_is_counted_by_its_name() -> None:
    metrics = Metrics(EventCounts())
    flows = metrics.flows

    flows.job_left("sales", "completed", {"input": 3, "output": 4})
    flows.job_left("sales", "failed", {"input": 1})

    assert counted(metrics, "flow_jobs", flow="sales", outcome="completed") == 1
    assert counted(metrics, "flow_jobs", flow="sales", outcome="failed") == 1
    assert counted(metrics, "usage_tokens", flow="sales", direction="input") == 4
    assert counted(metrics, "usage_tokens", flow="sales", direction="output") == 4


def test_flow_that_never_answered_has_no_label_of_its_own() -> None:
    metrics = Metrics(EventCounts())
    flows = metrics.flows

    for number in range(1000):
        flows.job_left(f"made-up-{number}", "failed", {})

    assert counted(metrics, "flow_jobs", flow="other", outcome="failed") == 1000
    assert counted(metrics, "flow_jobs", flow="made-up-0", outcome="failed") is None


def test_flows_beyond_the_limit_are_counted_together() -> None:
    metrics = Metrics(EventCounts())
    flows = metrics.flows

    for number in range(MOST_FLOWS + 5):
        flows.job_left(f"flow-{number}", "completed", {})

    assert counted(metrics, "flow_jobs", flow="other", outcome="completed") == 5
    assert counted(metrics, "flow_jobs", flow="flow-0", outcome="completed") == 1
