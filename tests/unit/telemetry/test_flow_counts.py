"""Counters by flow: a label for each flow that answers, and for no made-up one."""

from prometheus_client import CollectorRegistry

from aimicromind_worker.telemetry.flow_counts import MOST_FLOWS, FlowCounts


def counted(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"worker_{name}_total", labels)


def test_flow_that_answers_is_counted_by_its_name() -> None:
    registry = CollectorRegistry()
    flows = FlowCounts("worker", registry)

    flows.job_left("sales", "completed", {"input": 3, "output": 4})
    flows.job_left("sales", "failed", {"input": 1})

    assert counted(registry, "flow_jobs", flow="sales", outcome="completed") == 1
    assert counted(registry, "flow_jobs", flow="sales", outcome="failed") == 1
    assert counted(registry, "usage_tokens", flow="sales", direction="input") == 4
    assert counted(registry, "usage_tokens", flow="sales", direction="output") == 4


def test_flow_that_never_answered_has_no_label_of_its_own() -> None:
    registry = CollectorRegistry()
    flows = FlowCounts("worker", registry)

    for number in range(1000):
        flows.job_left(f"made-up-{number}", "failed", {})

    assert counted(registry, "flow_jobs", flow="other", outcome="failed") == 1000
    assert counted(registry, "flow_jobs", flow="made-up-0", outcome="failed") is None


def test_flows_beyond_the_limit_are_counted_together() -> None:
    registry = CollectorRegistry()
    flows = FlowCounts("worker", registry)

    for number in range(MOST_FLOWS + 5):
        flows.job_left(f"flow-{number}", "completed", {})

    assert counted(registry, "flow_jobs", flow="other", outcome="completed") == 5
    assert counted(registry, "flow_jobs", flow="flow-0", outcome="completed") == 1
