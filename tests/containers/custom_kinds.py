"""Schemas of the kinds that Kubernetes itself does not know: the fields that the manifests use, no other.

Written by hand from the documentation of KEDA and the Prometheus operator, and not compared with the definitions
of a release. They are narrower: a field of the operators that a manifest begins to use must be added here.
"""

from typing import Any

Schema = dict[str, Any]

STRING: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}
LABEL_SELECTOR: Schema = {"type": "object", "$comment": "checked where pods are matched with it"}


def record(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": False,
    }


def many(item: Schema) -> Schema:
    return {"type": "array", "items": item, "minItems": 1}


def _kind(version: str, kind: str, spec: Schema) -> Schema:
    metadata = record({"name": STRING, "namespace": STRING}, {"labels": {"type": "object"}})
    return record({"apiVersion": {"const": version}, "kind": {"const": kind}, "metadata": metadata, "spec": spec})


_SCALING_RULES = record(
    {},
    {
        "stabilizationWindowSeconds": {"type": "integer", "minimum": 0, "maximum": 3600},
        "policies": many(
            record(
                {
                    "type": {"enum": ["Pods", "Percent"]},
                    "value": {"type": "integer", "minimum": 1},
                    "periodSeconds": {"type": "integer", "minimum": 1, "maximum": 1800},
                }
            )
        ),
    },
)
_SCALED_OBJECT = record(
    {
        "scaleTargetRef": record({"name": STRING}, {"apiVersion": STRING, "kind": STRING}),
        "triggers": many(
            record(
                {
                    "type": {"const": "prometheus"},
                    # Every value is a string there, numbers and truth values too.
                    "metadata": record(
                        {"serverAddress": STRING, "query": STRING, "threshold": STRING}, {"ignoreNullValues": STRING}
                    ),
                },
                {"metricType": {"enum": ["AverageValue", "Value"]}},
            )
        ),
    },
    {
        "pollingInterval": COUNT,
        "minReplicaCount": COUNT,
        "maxReplicaCount": COUNT,
        "fallback": record({"failureThreshold": COUNT, "replicas": COUNT}),
        "advanced": record(
            {
                "horizontalPodAutoscalerConfig": record(
                    {"behavior": record({}, {"scaleUp": _SCALING_RULES, "scaleDown": _SCALING_RULES})}
                )
            }
        ),
    },
)
_POD_MONITOR = record(
    {
        "selector": LABEL_SELECTOR,
        "podMetricsEndpoints": many(
            record(
                {"port": STRING, "path": STRING, "interval": {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"}},
                {"authorization": record({"type": STRING, "credentials": record({"name": STRING, "key": STRING})})},
            )
        ),
    },
    {"jobLabel": STRING},
)
_RULE = record(
    {"expr": STRING},
    {
        "alert": STRING,
        "record": STRING,
        "for": {"type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$"},
        "keep_firing_for": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
)
_PROMETHEUS_RULE = record(
    {"groups": many(record({"name": STRING, "rules": many(_RULE)}, {"interval": {"type": "string"}}))}
)

CUSTOM_KINDS = {
    "ScaledObject": _kind("keda.sh/v1alpha1", "ScaledObject", _SCALED_OBJECT),
    "PodMonitor": _kind("monitoring.coreos.com/v1", "PodMonitor", _POD_MONITOR),
    "PrometheusRule": _kind("monitoring.coreos.com/v1", "PrometheusRule", _PROMETHEUS_RULE),
}
