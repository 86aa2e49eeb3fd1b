"""KEDA looks at the queues that the workers take jobs from, and fixed numbers stay fixed."""

from pathlib import Path
from typing import Any

import pytest

from aimicromind_schemas import Names
from tests.chart.helm import (
    SMALLEST,
    HelmRefused,
    Manifest,
    of_kind,
    only_container,
    pods,
    render,
    variables,
)

KEDA = SMALLEST.with_name("keda-values.yaml")


def triggers(manifests: list[Manifest]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = of_kind(manifests, "ScaledObject")["spec"]["triggers"]
    return found


@pytest.mark.parametrize("prefix", ["aimicromind", "team-a", "a.b_C-9", "1e3", "0x10"])
def test_queues_that_are_counted_are_those_of_the_worker(helm: Path, prefix: str) -> None:
    manifests = render(helm, KEDA, {"settings": {"prefix": prefix}})

    told = variables(manifests)["AIMICROMIND_PREFIX"]
    counted = [trigger["metadata"]["queueName"] for trigger in triggers(manifests)]
    assert told == prefix
    assert counted == [Names(told).jobs, Names(told).jobs_reaped]


def test_jobs_that_workers_hold_are_counted_unless_told_otherwise(helm: Path) -> None:
    (protocol,) = {trigger["metadata"]["protocol"] for trigger in triggers(render(helm, KEDA))}

    # Over AMQP one learns only how many jobs nobody holds.
    assert protocol == "http"


def test_a_worker_is_expected_to_carry_what_it_may(helm: Path) -> None:
    manifests = render(helm, KEDA, {"settings": {"concurrency": 77}})
    set_apart = render(helm, KEDA, {"keda": {"jobsPerReplica": 5}})

    assert triggers(manifests)[0]["metadata"]["value"] == "77"
    assert triggers(set_apart)[0]["metadata"]["value"] == "5"


def test_metadata_is_text_as_keda_wants_it(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        if manifest["kind"] == "ScaledObject":
            for trigger in manifest["spec"]["triggers"]:
                assert all(isinstance(value, str) for value in trigger["metadata"].values())


def test_scaler_aims_at_the_deployment_which_leaves_the_number_to_it(
    manifests: list[Manifest],
) -> None:
    deployment = of_kind(manifests, "Deployment")
    scalers = [manifest for manifest in manifests if manifest["kind"] == "ScaledObject"]

    assert ("replicas" in deployment["spec"]) == (not scalers)
    for scaler in scalers:
        target = scaler["spec"]["scaleTargetRef"]["name"]
        assert target == deployment["metadata"]["name"]
        login = of_kind(manifests, "TriggerAuthentication")["metadata"]["name"]
        assert {trigger["authenticationRef"]["name"] for trigger in scaler["spec"]["triggers"]} == {
            login
        }


def test_keda_gets_a_url_of_its_own_and_the_worker_does_not(helm: Path) -> None:
    manifests = render(helm, KEDA)
    (login,) = of_kind(manifests, "TriggerAuthentication")["spec"]["secretTargetRef"]

    secret = of_kind(manifests, "Secret")
    assert login["parameter"] == "host"
    assert login["name"] == secret["metadata"]["name"]
    assert secret["stringData"][login["key"]] == "http://keda:password@rabbitmq:15672/"
    for pod in pods(manifests):
        assert login["key"] not in str(only_container(pod))


def test_one_worker_stays_unless_none_is_asked_for(helm: Path) -> None:
    to_zero = render(helm, SMALLEST.with_name("scale-to-zero-values.yaml"))

    assert of_kind(render(helm, KEDA), "ScaledObject")["spec"]["minReplicaCount"] == 1
    spec = of_kind(to_zero, "ScaledObject")["spec"]
    assert (spec["minReplicaCount"], spec["cooldownPeriod"]) == (0, 900)
    assert [trigger["metadata"]["activationValue"] for trigger in spec["triggers"]] == ["2", "0"]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"keda": {"protocol": "amqp"}}, "kedaUrl must begin with amqp://"),
        ({"secret": {"kedaUrl": ""}}, "secret.kedaUrl is needed"),
        ({"keda": {"minReplicas": 11}}, "minReplicas is more than"),
    ],
)
def test_scaling_that_cannot_work_is_refused(
    helm: Path, values: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(HelmRefused, match=sentence):
        render(helm, KEDA, values)
