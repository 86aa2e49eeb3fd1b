"""Render the chart's alerts and dashboard, and check the rules with promtool."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.chart.helm import CHART, NAMESPACE, of_kind, programs, render
from tools.monitoring.expressions import operands, shortened, without_variables

_VALUES: Final = CHART / "ci" / "monitoring-values.yaml"
_OF_VARIABLE: Final = "label_values("


class RulesRefused(Exception):
    """promtool finds a fault in the rendered rules."""


class NoHelm(Exception):
    """There is no Helm to render the chart with."""

    def __init__(self) -> None:
        super().__init__("there is no Helm: `make try-monitoring` fetches it on Linux x86_64")


@dataclass(frozen=True, slots=True)
class Query:
    """A query, and where it is from."""

    source: str
    expression: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """The chart's monitoring.

    Attributes:
        deployment: The name of the workers' Deployment; pods are named after it.
        namespace: Their namespace.
        groups: The groups of the PrometheusRule.
        dashboard: The dashboard.
    """

    deployment: str
    namespace: str
    groups: list[dict[str, Any]]
    dashboard: dict[str, Any]

    @property
    def alerts(self) -> list[dict[str, Any]]:
        return [rule for group in self.groups for rule in group["rules"]]

    def queries(self, window_s: int) -> list[Query]:
        """Return the operands of all alerts, and the queries of all panels and variables."""
        found = [
            Query(rule["alert"], operand)
            for rule in self.alerts
            for operand in operands(shortened(rule["expr"], window_s))
        ]
        for panel in self.dashboard["panels"]:
            texts = [target["expr"] for target in panel["targets"]]
            found += [Query(panel["title"], without_variables(it, window_s)) for it in texts]
        for variable in self.dashboard["templating"]["list"]:
            definition = variable.get("definition", "")
            if definition.startswith(_OF_VARIABLE):
                selector = definition.removeprefix(_OF_VARIABLE).rpartition(",")[0]
                found.append(Query(f"${variable['name']}", without_variables(selector, window_s)))
        return found

    def rules_file(self, folder: Path, window_s: int, hold_s: int) -> Path:
        """Write the rules, with shorter windows and holds, to a file for Prometheus."""
        groups = [
            {
                **group,
                "rules": [
                    {**rule, "expr": shortened(rule["expr"], window_s)}
                    | ({"for": f"{hold_s}s"} if "for" in rule else {})
                    for rule in group["rules"]
                ],
            }
            for group in self.groups
        ]
        return _written(folder / "short-rules.yaml", groups)


def rendered() -> Rendered:
    """Render the chart with the values of its monitoring case.

    Raises:
        NoHelm: There is none.
    """
    found = programs()
    if not found:
        raise NoHelm
    only_ours: dict[str, Any] = {"monitoring": {"prometheusRule": {"extraRules": []}}}
    manifests = render(found[-1], _VALUES, only_ours)
    (boards,) = [it["data"] for it in manifests if it["metadata"]["name"].endswith("-dashboard")]
    (board,) = boards.values()
    return Rendered(
        of_kind(manifests, "Deployment")["metadata"]["name"],
        NAMESPACE,
        of_kind(manifests, "PrometheusRule")["spec"]["groups"],
        json.loads(board),
    )


def check_rules(promtool: str, groups: list[dict[str, Any]], folder: Path) -> str:
    """Return what promtool says of the rules as the chart has them.

    Raises:
        RulesRefused: It finds a fault.
    """
    path = _written(folder / "rules.yaml", groups)
    done = subprocess.run(
        [promtool, "check", "rules", path], capture_output=True, text=True, timeout=30, check=False
    )
    if done.returncode:
        raise RulesRefused(done.stdout + done.stderr)
    return " ".join(line.strip() for line in done.stdout.splitlines()[1:] if line.strip())


def _written(path: Path, groups: list[dict[str, Any]]) -> Path:
    # JSON is YAML.
    path.write_text(json.dumps({"groups": groups}, indent=2))
    return path
