"""Values that make no sense are refused before anything is installed, and the page tells all."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from aimicromind_worker.app.settings import Settings
from tests.chart.helm import CHART, HelmRefused, render
from tests.chart.readme import README, VALUES, NotDescribed, table, with_values

_SCHEMA = json.loads((CHART / "values.schema.json").read_text())
_DEFAULTS = yaml.safe_load(VALUES.read_text())
_FREE = {"behavior.scaleDown", "podSecurityContext", "securityContext", "requests", "limits"}


def sections(values: dict[str, Any], path: str = "") -> list[str]:
    """Name every section of the values but those that Kubernetes has the say in."""
    found = [path]
    for name, value in values.items():
        inner = f"{path}.{name}" if path else name
        if isinstance(value, dict) and value and not inner.endswith(tuple(_FREE)):
            found += sections(value, inner)
    return found


@pytest.mark.parametrize("section", sections(_DEFAULTS), ids=lambda name: name or "top")
def test_typo_is_refused_in_every_section(helm: Path, section: str) -> None:
    values: dict[str, Any] = {"typo": 1}
    for name in reversed(section.split(".") if section else []):
        values = {name: values}

    with pytest.raises(HelmRefused, match="typo"):
        render(helm, overrides=values)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"settings": {"concurrency": 0}}, "concurrency"),
        ({"settings": {"concurrency": "many"}}, "concurrency"),
        ({"settings": {"prefix": "a b"}}, "prefix"),
        ({"settings": {"healthPort": 0}}, "healthPort"),
        ({"settings": {"predictionPath": "/api"}}, "predictionPath"),
        ({"secret": {"amqpUrl": "http://rabbitmq"}}, "amqpUrl"),
        ({"keda": {"protocol": "auto"}}, "protocol"),
        ({"podDisruptionBudget": {"maxUnavailable": 0}}, "maxUnavailable"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"extraEnv": [{"name": "AIMICROMIND_DRAIN_SECONDS", "value": "1"}]}, "extraEnv"),
    ],
)
def test_bad_value_is_refused_by_name(helm: Path, values: dict[str, Any], named: str) -> None:
    with pytest.raises(HelmRefused, match=named):
        render(helm, overrides=values)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"settings": {"baseUrl": ""}}, "settings.baseUrl is needed"),
        ({"secret": {"amqpUrl": ""}}, "secret.amqpUrl is needed, or secret.existingSecret"),
        ({"tls": {"amqpCaSecret": "ca"}}, "secret.amqpUrl must begin with amqps://"),
    ],
)
def test_what_is_missing_is_asked_for(helm: Path, values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(HelmRefused, match=sentence):
        render(helm, overrides=values)


def test_defaults_are_the_workers_own() -> None:
    own = {name: field.default for name, field in Settings.model_fields.items()}
    given = _DEFAULTS["settings"]

    assert given["prefix"] == own["prefix"]
    assert given["concurrency"] == own["concurrency"]
    assert given["drainSeconds"] == own["drain_seconds"]
    assert given["healthPort"] == own["health_port"]


def test_schema_knows_the_settings_and_no_others() -> None:
    named = {name.upper() for name in _SCHEMA["properties"]["settings"]["properties"]}
    files = {"CA_FILE", "CLIENT_CERTIFICATE", "AMQP_CA_FILE", "AMQP_CLIENT_CERTIFICATE"}
    elsewhere = {"AMQP_URL", "API_KEY", "MANAGEMENT_URL", *files}

    assert named == {
        name.upper().replace("_", "")
        for name in Settings.model_fields
        if name.upper() not in elsewhere
    }


def test_table_of_values_is_current() -> None:
    page = README.read_text()

    assert with_values(page) == page


def test_value_without_a_description_is_noticed() -> None:
    assert "| `a.b` | `1` | One. Two. |" in table("a:\n  # -- One.\n  # Two.\n  b: 1\n")
    with pytest.raises(NotDescribed, match=r"a\.c"):
        table("a:\n  # -- One.\n  b: 1\n  c: 2\n")
