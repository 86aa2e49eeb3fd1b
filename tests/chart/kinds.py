"""Schemas of what is no part of Kubernetes: KEDA and the Prometheus operator."""

from functools import cache
from typing import Any

from cloudcoil.models.keda.v1alpha1 import ScaledObject, TriggerAuthentication
from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule

CUSTOM = {
    "ScaledObject": ScaledObject,
    "TriggerAuthentication": TriggerAuthentication,
    "PodMonitor": PodMonitor,
    "PrometheusRule": PrometheusRule,
}


@cache
def custom_schema(kind: str) -> dict[str, Any]:
    """Give the JSON Schema of a kind, made from its CRD, with no room for unknown fields.

    The models drop what they do not know, so their schemas allow it: that is closed here.
    """
    schema: dict[str, Any] = CUSTOM[kind].model_json_schema(by_alias=True)
    for part in (schema, *schema["$defs"].values()):
        if part.get("properties"):
            part["additionalProperties"] = False
    return schema
