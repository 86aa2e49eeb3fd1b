"""Alerts and dashboard speak of numbers that there are, and alerts of runbooks that there are."""

import json
import re
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from aimicromind_worker.app.settings import Settings
from aimicromind_worker.app.worker import Worker
from tests.chart.helm import Manifest, of_kind, only_container, pods, render

TOP = Path(__file__).parents[2]
CHART = TOP / "charts/aimicromind-worker"
# Those of Grafana: plain, seconds, yes or no, and so many of something in a second.
_UNITS = {"bytes", "none", "s", "bool_yes_no", "ops", "reqps", "cps"}


def manifests(helm: Path) -> list[Manifest]:
    return render(helm, CHART / "ci/monitoring-values.yaml")


def rules(helm: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = of_kind(manifests(helm), "PrometheusRule")["spec"]["groups"][
        0
    ]["rules"]
    return found


def dashboard(helm: Path) -> dict[str, Any]:
    """Give the dashboard as Grafana's sidecar finds it."""
    (found,) = [
        it
        for it in manifests(helm)
        if it["metadata"].get("labels", {}).get("grafana_dashboard") == "worker"
    ]
    (text,) = found["data"].values()
    read: dict[str, Any] = json.loads(text)
    return read


def expressions(helm: Path) -> list[str]:
    panels = dashboard(helm)["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def names(text: object) -> set[str]:
    """Find the worker's numbers in expressions, by the names that their families have."""
    found = re.findall(r"aimicromind_worker_\w+", str(text))
    return {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in found}


def exported() -> set[str]:
    """Name the families that a worker shows, but for the times when each was created."""
    settings = Settings.read(amqp_url="amqp://broker/", base_url="http://server")
    shown = Worker(settings).metrics.text().decode()
    families = {family.name for family in text_string_to_metric_families(shown)}
    return {name for name in families if not name.endswith("_created")}


def test_alerts_use_numbers_that_the_worker_has(helm: Path) -> None:
    used = names([it["expr"] for it in rules(helm)])

    assert len(used) >= 6
    assert used - exported() == set()


def test_dashboard_shows_each_number_that_the_worker_has_and_no_other(helm: Path) -> None:
    assert names(expressions(helm)) == exported()
    variables = dashboard(helm)["templating"]["list"]
    assert names([it.get("definition", "") for it in variables]) <= exported()


def test_each_panel_of_the_dashboard_has_a_unit_and_a_place_of_its_own(helm: Path) -> None:
    panels = dashboard(helm)["panels"]

    units = {panel["title"]: panel["fieldConfig"]["defaults"].get("unit") for panel in panels}
    assert {title for title, unit in units.items() if unit not in _UNITS} == set()
    assert len(units) == len({panel["id"] for panel in panels}) == len(panels)
    taken = [
        (column, row)
        for place in (panel["gridPos"] for panel in panels)
        for column in range(place["x"], place["x"] + place["w"])
        for row in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(column for column, _ in taken) < 24


def alerts(helm: Path, **changed: object) -> dict[str, dict[str, Any]]:
    """Give the chart's own alerts, by name."""
    monitoring = {"prometheusRule": {"extraRules": [], **changed}}
    shown = render(helm, CHART / "ci/monitoring-values.yaml", {"monitoring": monitoring})
    (group,) = of_kind(shown, "PrometheusRule")["spec"]["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def test_each_alert_leads_to_a_runbook_of_its_own_that_is_there(helm: Path) -> None:
    base = "https://docs.example.com/operations.md"
    page = (TOP / "docs/operations.md").read_text()
    runbooks = page[page.index("### Runbooks\n") : page.index("\n## What was tried")]
    sections = {
        title.lower().replace(" ", "-"): text
        for title, text in re.findall(r"(?ms)^#### (.+?)$(.+?)(?=^#### |\Z)", runbooks)
    }

    shown = alerts(helm, runbookUrl=base)

    urls = {name: rule["annotations"]["runbook_url"] for name, rule in shown.items()}
    assert {url.partition("#")[0] for url in urls.values()} == {base}
    assert len(set(urls.values())) == len(urls) >= 13
    led_to = {name: sections.get(url.partition("#")[2], "") for name, url in urls.items()}
    assert [name for name, text in led_to.items() if f"`{name}`" not in text] == []


def test_each_threshold_is_used_by_the_alert_that_its_description_names(helm: Path) -> None:
    values = (CHART / "values.yaml").read_text()
    block = values[values.index("    thresholds:") : values.index("    # -- More rules.")]
    named = dict(re.findall(r"\((Aimicromind\w+)\)\.\n +(\w+):", block))
    chosen = {name: round(0.5111 + 0.01 * at, 4) for at, name in enumerate(named.values())}

    shown = alerts(helm, thresholds=chosen)

    assert len(named) == 7
    assert {name: str(chosen[it]) in shown[name]["expr"] for name, it in named.items()} == (
        dict.fromkeys(named, True)
    )


def test_variables_of_opentelemetry_reach_the_worker(helm: Path) -> None:
    worker, _ = pods(render(helm, CHART / "ci/tracing-values.yaml"))
    names = [variable["name"] for variable in only_container(worker)["env"]]

    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in names
    # A variable can only name one that stands before it.
    assert names.index("POD_NAME") < names.index("OTEL_RESOURCE_ATTRIBUTES")
