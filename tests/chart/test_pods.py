"""What schemas cannot see: that the parts of the chart fit each other, and the worker."""

from pathlib import Path
from typing import Any

import pytest

from aimicromind_worker.app.settings import Settings
from tests.chart.helm import (
    CASES,
    SMALLEST,
    HelmRefused,
    Manifest,
    of_kind,
    only_container,
    pods,
    render,
    variables,
)

_SETTINGS = {f"AIMICROMIND_{name.upper()}" for name in Settings.model_fields}
_SECRETS_DIR = "AIMICROMIND_SECRETS_DIR"
# These are files, which exist in the pod alone.
_FILES = {
    f"AIMICROMIND_{name}"
    for name in ("CA_FILE", "CLIENT_CERTIFICATE", "AMQP_CA_FILE", "AMQP_CLIENT_CERTIFICATE")
}


def names_of_environment(manifests: list[Manifest], pod: Manifest) -> list[str]:
    container = only_container(pod)
    own = [variable["name"] for variable in container["env"]]
    return [*own, *variables(manifests)]


def secrets_of(pod: Manifest) -> list[dict[str, Any]]:
    """Give what is mounted where the worker looks for secrets."""
    (folder,) = [it for it in only_container(pod)["env"] if it["name"] == _SECRETS_DIR]
    (mount,) = [
        it for it in only_container(pod)["volumeMounts"] if it["mountPath"] == folder["value"]
    ]
    (volume,) = [it for it in pod["spec"]["volumes"] if it["name"] == mount["name"]]
    return [source["secret"] for source in volume["projected"]["sources"]]


def settings_of_secrets(pod: Manifest) -> set[str]:
    return {item["path"].upper() for source in secrets_of(pod) for item in source["items"]}


def matches(selector: dict[str, Any], pod: Manifest) -> bool:
    labels = pod["metadata"]["labels"]
    return bool(selector["matchLabels"].items() <= labels.items())


def test_every_selector_finds_the_workers_and_not_the_test(manifests: list[Manifest]) -> None:
    worker, test = pods(manifests)
    specs = {manifest["kind"]: manifest.get("spec", {}) for manifest in manifests}
    spreads = worker["spec"].get("topologySpreadConstraints", [])
    selectors = [spread["labelSelector"] for spread in spreads]
    kinds = ("Deployment", "PodDisruptionBudget", "PodMonitor")
    selectors += [specs[kind]["selector"] for kind in kinds if kind in specs]

    assert len(selectors) > 1
    for selector in selectors:
        assert matches(selector, worker)
        assert not matches(selector, test)
    if "NetworkPolicy" in specs:
        # The test needs the broker, too.
        assert all(matches(specs["NetworkPolicy"]["podSelector"], pod) for pod in (worker, test))


def test_probes_ask_ports_that_there_are(manifests: list[Manifest]) -> None:
    container = only_container(pods(manifests)[0])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}

    paths = {}
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[name]["httpGet"]
        assert asked["port"] in ports
        paths[name] = asked["path"]

    # Only /livez is true of a worker whose broker is away.
    assert paths == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }
    told = variables(manifests)["AIMICROMIND_HEALTH_PORT"]
    assert list(ports.values()) == [int(told)]
    for monitor in (manifest for manifest in manifests if manifest["kind"] == "PodMonitor"):
        assert all(end["port"] in ports for end in monitor["spec"]["podMetricsEndpoints"])


def test_what_is_mounted_is_there_and_what_is_there_is_mounted(manifests: list[Manifest]) -> None:
    for pod in pods(manifests):
        volumes = [volume["name"] for volume in pod["spec"].get("volumes", [])]
        mounts = [mount["name"] for mount in only_container(pod).get("volumeMounts", [])]

        assert sorted(volumes) == sorted(mounts)
        assert len(set(volumes)) == len(volumes)


def test_files_that_settings_name_are_mounted(helm: Path) -> None:
    manifests = render(helm, SMALLEST.with_name("tls-values.yaml"))
    (worker, _), data = pods(manifests), variables(manifests)
    volumes = {it["name"]: it["secret"] for it in worker["spec"]["volumes"] if "secret" in it}

    mounted = {
        f"{mount['mountPath']}/{item['path']}": (volumes[mount["name"]]["secretName"], item["key"])
        for mount in only_container(worker)["volumeMounts"]
        if mount["name"] in volumes
        for item in volumes[mount["name"]]["items"]
    }

    assert {name: mounted.pop(data[name]) for name in _FILES} == {
        "AIMICROMIND_AMQP_CA_FILE": ("rabbitmq-client", "ca.crt"),
        "AIMICROMIND_AMQP_CLIENT_CERTIFICATE": ("rabbitmq-client", "tls-combined.pem"),
        "AIMICROMIND_CA_FILE": ("company-ca", "ca.crt"),
        "AIMICROMIND_CLIENT_CERTIFICATE": ("aimicromind-client", "tls-combined.pem"),
    }
    assert not mounted


def test_worker_may_drain_before_it_is_killed(manifests: list[Manifest]) -> None:
    drain = float(variables(manifests)["AIMICROMIND_DRAIN_SECONDS"])

    assert pods(manifests)[0]["spec"]["terminationGracePeriodSeconds"] >= drain + 5


@pytest.mark.parametrize(("drain", "grace", "fits"), [(40, 45, True), (40, 44, False)])
def test_too_short_a_grace_period_is_refused(
    helm: Path, drain: int, grace: int, *, fits: bool
) -> None:
    values = {"settings": {"drainSeconds": drain}, "terminationGracePeriodSeconds": grace}

    if fits:
        worker, _ = pods(render(helm, overrides=values))
        assert worker["spec"]["terminationGracePeriodSeconds"] == grace
    else:
        with pytest.raises(HelmRefused, match=r"is 44 and must be at least 45: settings\.drain"):
            render(helm, overrides=values)


def test_worker_knows_every_variable_and_gets_each_once(manifests: list[Manifest]) -> None:
    for pod in pods(manifests):
        given = names_of_environment(manifests, pod)
        own = [name for name in given if name.upper().startswith("AIMICROMIND_")]

        assert set(own) <= _SETTINGS | {_SECRETS_DIR}
        assert len(set(given)) == len(given)


def test_chart_can_set_every_setting(helm: Path) -> None:
    settable: set[str] = set()
    for values in CASES:
        manifests = render(helm, values)
        worker, _ = pods(manifests)
        settable |= set(names_of_environment(manifests, worker)) | settings_of_secrets(worker)

    assert settable >= _SETTINGS


def test_worker_reads_what_the_chart_writes(
    manifests: list[Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = variables(manifests)
    for file in _FILES:
        data.pop(file, None)
    for name, value in {**data, "AIMICROMIND_AMQP_URL": "amqp://broker"}.items():
        monkeypatch.setenv(name, value)

    read = Settings.read()

    assert (
        read.health_port == pods(manifests)[0]["spec"]["containers"][0]["ports"][0]["containerPort"]
    )


def test_large_numbers_stay_as_they_are_written(helm: Path) -> None:
    data = variables(render(helm, SMALLEST.with_name("settings-values.yaml")))

    assert data["AIMICROMIND_EVENTS_LOG_MAX_BYTES"] == "2000000000"
    assert data["AIMICROMIND_DRAIN_SECONDS"] == "110.5"
    assert data["AIMICROMIND_RECOVERY_SECONDS"] == "0"


def test_secrets_come_from_the_secret_alone(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        if manifest["kind"] != "Secret":
            assert "password" not in str(manifest)
            assert "an-api-key" not in str(manifest)
    for pod in pods(manifests):
        # As files, which are there anew when the Secret changes; variables never are.
        assert settings_of_secrets(pod) == {
            "AIMICROMIND_AMQP_URL",
            "AIMICROMIND_API_KEY",
            "AIMICROMIND_MANAGEMENT_URL",
        }
        assert not settings_of_secrets(pod) & set(names_of_environment(manifests, pod))


def test_secret_that_is_named_exists_or_is_made(manifests: list[Manifest]) -> None:
    made = {m["metadata"]["name"]: m["stringData"] for m in manifests if m["kind"] == "Secret"}
    for pod in pods(manifests):
        for source in secrets_of(pod):
            if source["name"] != "aimicromind":
                keys = made[source["name"]]
                for item in source["items"]:
                    assert item["key"] in keys or source.get("optional")


@pytest.mark.parametrize(
    "values",
    [
        {"settings": {"baseUrl": "https://other"}},
        {"settings": {"concurrency": 5}},
        {"secret": {"apiKey": "other"}},
    ],
    ids=["url", "concurrency", "key"],
)
def test_pods_are_replaced_when_their_settings_change(helm: Path, values: dict[str, Any]) -> None:
    (before, _), (after, _) = (pods(render(helm, overrides=given)) for given in (None, values))

    assert before["metadata"]["annotations"] != after["metadata"]["annotations"]


def test_pods_are_as_restricted_as_kubernetes_knows_it(manifests: list[Manifest]) -> None:
    for pod in pods(manifests):
        spec, container = pod["spec"], only_container(pod)

        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False


def test_helm_test_asks_the_broker_as_the_worker_does(manifests: list[Manifest]) -> None:
    worker, test = (only_container(pod) for pod in pods(manifests))

    assert test["args"] == ["doctor"]
    same = ("image", "env", "envFrom", "securityContext", "volumeMounts")
    assert {name: test.get(name) for name in same} == {name: worker.get(name) for name in same}


def test_sick_pods_never_hold_up_a_node(helm: Path) -> None:
    budgets = {
        version: of_kind(render(helm, kubernetes=version), "PodDisruptionBudget")["spec"]
        for version in ("1.25.0", "1.27.0")
    }

    assert "unhealthyPodEvictionPolicy" not in budgets["1.25.0"]
    assert budgets["1.27.0"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
