"""What the chart renders is what Kubernetes, KEDA and the Prometheus operator accept."""

import copy
from pathlib import Path

import kubernetes_validate
import pytest
from jsonschema import Draft202012Validator, ValidationError

from tests.chart.helm import CASES, CHART, NO_HELM, Manifest, of_kind, programs, render, run
from tests.chart.kinds import CUSTOM, custom_schema

_NEWEST = kubernetes_validate.latest_version().rpartition(".")[0]


def check(manifest: Manifest) -> None:
    """Validate; the schema itself is not checked, as it has a pattern of Go in it."""
    Draft202012Validator(custom_schema(manifest["kind"])).validate(manifest)


def test_lint_finds_nothing(helm: Path, values: Path) -> None:
    assert "0 chart(s) failed" in run(helm, "lint", "--strict", CHART, "--values", values)


def test_every_helm_renders_the_same(helm: Path, values: Path) -> None:
    by_name = [
        {(it["kind"], it["metadata"]["name"]): it for it in render(program, values)}
        for program in (helm, programs()[0])
    ]

    assert by_name[0] == by_name[1]


@pytest.mark.parametrize("version", ["1.25", "1.32", _NEWEST])
def test_kubernetes_accepts_every_manifest(values: Path, version: str) -> None:
    # One Helm will do: the other one renders the same, see above.
    if not programs():
        pytest.skip(NO_HELM)
    manifests = render(programs()[0], values, kubernetes=f"{version}.0")
    own = [manifest for manifest in manifests if manifest["kind"] not in CUSTOM]

    assert {"ConfigMap", "Deployment", "Pod"} <= {manifest["kind"] for manifest in own}
    for manifest in own:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_custom_kinds_fit_their_schemas(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        if manifest["kind"] in CUSTOM:
            check(manifest)


def test_every_custom_kind_is_rendered_by_some_values(helm: Path) -> None:
    kinds = {manifest["kind"] for values in CASES for manifest in render(helm, values)}

    assert set(CUSTOM) <= kinds


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("ScaledObject", ["spec"]),
        ("ScaledObject", ["spec", "triggers", 0]),
        ("TriggerAuthentication", ["spec", "secretTargetRef", 0]),
        ("PodMonitor", ["spec", "podMetricsEndpoints", 0]),
        ("PrometheusRule", ["spec", "groups", 0, "rules", 0]),
    ],
)
def test_custom_schemas_refuse_what_is_unknown(
    helm: Path, kind: str, path: list[str | int]
) -> None:
    name = "monitoring" if kind.startswith("P") else "keda"
    manifest = copy.deepcopy(of_kind(render(helm, CHART / "ci" / f"{name}-values.yaml"), kind))
    place = manifest
    for step in path:
        place = place[step]  # type: ignore[index]
    place["typo"] = 1

    with pytest.raises(ValidationError, match="typo"):
        check(manifest)
