"""Alerts speak of numbers that there are, and of runbooks that there are."""

import re
from pathlib import Path

from aimicromind_worker.app import Worker
from aimicromind_worker.settings import Settings
from tests.chart.helm import only_container, pods, render

TOP = Path(__file__).parents[2]
CHART = TOP / "charts/aimicromind-worker"


def rules(helm: Path) -> list[dict[str, object]]:
    manifests = render(helm, CHART / "ci/monitoring-values.yaml")
    (rule,) = [it for it in manifests if it["kind"] == "PrometheusRule"]
    found: list[dict[str, object]] = rule["spec"]["groups"][0]["rules"]
    return found


def test_alerts_use_numbers_that_the_worker_has(helm: Path) -> None:
    settings = Settings.read(amqp_url="amqp://broker/", base_url="http://server")
    shown = Worker(settings).metrics.text().decode()
    used = set(re.findall(r"aimicromind_worker_\w+", str([it["expr"] for it in rules(helm)])))

    assert len(used) >= 6
    assert {name for name in used if f"# HELP {name} " not in shown} == set()


def test_each_runbook_that_an_alert_names_is_there(helm: Path) -> None:
    page = (TOP / "docs/operations.md").read_text()
    named = re.findall(r"docs/operations\.md, ([^.']+)\.", str(rules(helm)))

    assert len(named) == 5
    assert [name for name in named if f"**{name}**" not in page] == []


def test_variables_of_opentelemetry_reach_the_worker(helm: Path) -> None:
    worker, _ = pods(render(helm, CHART / "ci/tracing-values.yaml"))
    names = [variable["name"] for variable in only_container(worker)["env"]]

    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in names
    # A variable can only name one that stands before it.
    assert names.index("POD_NAME") < names.index("OTEL_RESOURCE_ATTRIBUTES")
