"""``values.schema.json`` of the chart, made of the settings models: ``python -m tests.helm.schema``
writes it anew.

``config`` is exactly the configuration file; the rest of the values is described here.
"""

import json
from pathlib import Path
from typing import Any

from sidecar.settings.adapter import ADAPTER

CHART = Path(__file__).parent.parent.parent / "helm" / "smart-imaging-sidecar"
FILE = CHART / "values.schema.json"

NAME = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"}
TEXT, FLAG, MAPPING, LIST = (
    {"type": "string"},
    {"type": "boolean"},
    {"type": "object"},
    {"type": "array"},
)
PORT = {"type": "integer", "minimum": 1, "maximum": 65_535}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
DURATION = {"type": "string", "pattern": r"^[0-9]+(ms|s|m|h)$"}


def _count(minimum: int = 0) -> dict[str, Any]:
    return {"type": "integer", "minimum": minimum}


def _section(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the chart's values."""
    settings = ADAPTER.json_schema()
    definitions = settings.pop("$defs")
    # Empty in the chart's own values; templates say that it is required. What is there must be
    # right.
    config = {
        "description": "The sidecar's settings (docs/configuration.md)",
        "type": "object",
        "if": {"minProperties": 1},
        "then": settings,
    }
    mounted = {"type": "object", "additionalProperties": False, "required": ["name"]}
    secret = mounted | {
        "properties": {"name": NAME, "items": {"type": "array", "minItems": 1, "items": TEXT}}
    }
    monitor = _section(enabled=FLAG, labels=TEXTS, interval=DURATION)
    values = _section(
        config=config,
        secrets={"type": "array", "items": secret},
        configMaps={"type": "array", "items": mounted | {"properties": {"name": NAME}}},
        spool=_section(
            enabled=FLAG,
            size={"type": "string", "pattern": "^[0-9]+(Ki|Mi|Gi|Ti)$"},
            existingClaim=TEXT,
        ),
        image=_section(
            repository=TEXT | {"minLength": 1},
            tag=TEXT,
            digest={"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
            pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
        ),
        imagePullSecrets={"type": "array", "items": mounted | {"properties": {"name": NAME}}},
        deployment=_section(enabled=FLAG),
        replicaCount=_count(),
        orthanc=_section(enabled=FLAG, image=TEXT, existingClaim=TEXT, resources=MAPPING),
        service=_section(
            type={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}, port=PORT, annotations=TEXTS
        ),
        ingress=_section(enabled=FLAG, className=TEXT, host=TEXT, annotations=TEXTS, tls=LIST),
        gateway=_section(
            enabled=FLAG,
            parentRefs=LIST,
            hostnames={"type": "array", "items": TEXT},
            requestTimeout=DURATION,
        ),
        networkPolicy=_section(
            **{"from": LIST},
            enabled=FLAG,
            prometheus=LIST,
            pacs=_section(podLabels=TEXTS, port=PORT, ingress=LIST),
        ),
        podDisruptionBudget=_section(
            enabled=FLAG,
            maxUnavailable={"anyOf": [_count(), {"type": "string", "pattern": "^[0-9]+%$"}]},
        ),
        autoscaling=_section(
            enabled=FLAG,
            minReplicas=_count(1),
            maxReplicas=_count(1),
            cpuPercent=_count(1),
            streamsPerPod=_count(),
        ),
        resources=MAPPING,
        topologySpread=FLAG,
        nodeSelector=TEXTS,
        tolerations=LIST,
        affinity=MAPPING,
        priorityClassName=TEXT,
        podAnnotations=TEXTS,
        podLabels=TEXTS,
        serviceAccount=_section(create=FLAG, name=TEXT, annotations=TEXTS),
        extraEnv=LIST,
        preStopSeconds=_count(),
        serviceMonitor=monitor,
        podMonitor=monitor,
        prometheusRule=_section(
            enabled=FLAG,
            labels=TEXTS,
            runbookUrl={"type": "string", "pattern": "^(https?://[^#]+)?$"},
        ),
        dashboard=_section(enabled=FLAG, labels=TEXTS),
        tests=_section(enabled=FLAG),
        **{"global": MAPPING},
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Values",
        "$defs": definitions,
    } | values


def written() -> str:
    """As the file has it."""
    return json.dumps(schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(written())
