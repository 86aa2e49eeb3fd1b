"""The chart, rendered by real Helm with each of its sets of values."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

TOP = Path(__file__).parents[2]
CHART = TOP / "charts" / "aimicromind-worker"
CASES = sorted((CHART / "ci").glob("*-values.yaml"))
SMALLEST = CHART / "ci" / "default-values.yaml"
# The one in C is ten times faster, where there is one.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
NO_HELM = "no Helm: run `make test-chart`"
RELEASE, NAMESPACE = "chats", "production"

Manifest = dict[str, Any]


class HelmRefused(Exception):
    """Helm ended with an error; the text is what it said."""


def programs() -> list[Path]:
    """Find Helm 3 and Helm 4 where scripts/find-helm.sh puts them, else what is on the PATH."""
    fetched = [TOP / ".tools" / name / "helm" for name in ("helm3", "helm4")]
    if all(program.is_file() for program in fetched):
        return fetched
    found = shutil.which("helm")
    return [Path(found)] if found else []


def run(helm: Path, *arguments: str | Path, stdin: str = "") -> str:
    """Run Helm and give what it wrote.

    Raises:
        HelmRefused: It ended with an error.
    """
    done = subprocess.run(
        [helm, *arguments], input=stdin, capture_output=True, text=True, timeout=20, check=False
    )
    if done.returncode:
        raise HelmRefused(done.stdout + done.stderr)
    return done.stdout


@cache
def _template(helm: Path, values: Path, kubernetes: str, overrides: str) -> str:
    where = ("--namespace", NAMESPACE, "--kube-version", kubernetes)
    both = ("--values", values, "--values", "-")
    return run(helm, "template", RELEASE, CHART, *both, *where, stdin=overrides)


def render(
    helm: Path,
    values: Path = SMALLEST,
    overrides: Mapping[str, Any] | None = None,
    *,
    kubernetes: str = "1.32.0",
) -> list[Manifest]:
    """Render all manifests, hooks included.

    Args:
        helm: The program.
        values: A file of values.
        overrides: Values that go before those of the file.
        kubernetes: The version that the cluster says it has.

    Raises:
        HelmRefused: The values are refused, or a template fails.
    """
    text = _template(helm, values, kubernetes, json.dumps(overrides or {}))
    return [manifest for manifest in yaml.load_all(text, _LOADER) if manifest]


def of_kind(manifests: list[Manifest], kind: str) -> Manifest:
    """Give the only manifest of a kind."""
    (found,) = (manifest for manifest in manifests if manifest["kind"] == kind)
    return found


def variables(manifests: list[Manifest]) -> dict[str, str]:
    """Give what the ConfigMap of the pods sets."""
    (source,) = only_container(pods(manifests)[0])["envFrom"]
    name = source["configMapRef"]["name"]
    (found,) = (
        it for it in manifests if it["kind"] == "ConfigMap" and it["metadata"]["name"] == name
    )
    return dict(found["data"])


def pods(manifests: list[Manifest]) -> list[Manifest]:
    """Give every pod with its metadata: the deployment's template, and the test's."""
    return [of_kind(manifests, "Deployment")["spec"]["template"], of_kind(manifests, "Pod")]


def only_container(pod: Manifest) -> Manifest:
    (container,) = pod["spec"]["containers"]
    return dict(container)
