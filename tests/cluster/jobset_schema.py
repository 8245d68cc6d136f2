"""The part of two schemas of Kubernetes that our manifests use, as JSON Schema, with no field that they do not have.

JobSet: kubernetes-sigs/jobset, api/jobset/v1alpha2/jobset_types.go. Job and Pod: batch/v1 and core/v1 of Kubernetes 1.31.
"""

from typing import Any

LABEL = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"}
TEXT = {"type": "string", "minLength": 1}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}


def fields(required: str = "", **properties: Any) -> dict[str, Any]:
    """An object with these fields and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def several(item: dict[str, Any], least: int = 1) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": least}


def whole(least: int = 0, most: int = 2**31 - 1) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": most}


def one_of(*names: str) -> dict[str, Any]:
    return {"enum": list(names)}


SOURCE = fields(fieldRef=fields("fieldPath", apiVersion=TEXT, fieldPath=TEXT))
VARIABLE = fields(
    "name", name={"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}, value={"type": "string"}, valueFrom=SOURCE
)
CONTAINER = fields(
    "name image",
    name=LABEL,
    image=TEXT,
    command=several({"type": "string"}),
    ports=several(fields("containerPort", containerPort=whole(1, 65535))),
    env=several(VARIABLE),
    resources=fields(limits=TEXTS, requests=TEXTS),
    volumeMounts=several(fields("name mountPath", name=LABEL, mountPath={"type": "string", "pattern": "^/[^:]*$"})),
)
VOLUME = fields(
    "name",
    name=LABEL,
    persistentVolumeClaim=fields("claimName", claimName=TEXT, readOnly={"type": "boolean"}),
    emptyDir=fields(medium=one_of("", "Memory"), sizeLimit=TEXT),
)
POD = fields(
    "containers",
    restartPolicy=one_of("Never", "OnFailure"),  # of a Job's pods
    terminationGracePeriodSeconds=whole(),
    nodeSelector=TEXTS,
    containers=several(CONTAINER),
    volumes=several(VOLUME),
)
CODES = fields(
    "operator values",
    containerName=LABEL,
    operator=one_of("In", "NotIn"),
    values={**several(whole(1, 255)), "maxItems": 255, "uniqueItems": True},  # "In" may not name zero
)
POD_FAILURE = fields("action", action=one_of("FailJob", "FailIndex", "Ignore", "Count"), onExitCodes=CODES)
JOB = fields(
    "template",
    parallelism=whole(),
    completions=whole(),
    completionMode=one_of("Indexed", "NonIndexed"),
    backoffLimit=whole(),
    podFailurePolicy=fields("rules", rules=several(POD_FAILURE)),
    template=fields(metadata=fields(labels=TEXTS, annotations=TEXTS), spec=POD),
)
ACTIONS = (
    "FailJobSet",
    "RestartJobSet",
    "RestartJobSetAndIgnoreMaxRestarts",
    "RestartJob",
    "RestartJobAndIgnoreMaxRestarts",
)
REASONS = ("BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes", "MaxFailedIndexesExceeded", "PodFailurePolicy")
RULE = fields(
    "name action",
    name={"type": "string", "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
    action=one_of(*ACTIONS),
    onJobFailureReasons={**several(one_of(*REASONS)), "uniqueItems": True},
)
SPEC = fields(
    "replicatedJobs",
    network=fields(
        enableDNSHostnames={"type": "boolean"}, subdomain=LABEL, publishNotReadyAddresses={"type": "boolean"}
    ),
    failurePolicy=fields(
        maxRestarts=whole(),
        restartStrategy=one_of("Recreate", "BlockingRecreate", "InPlaceRestart"),
        rules=several(RULE),
    ),
    replicatedJobs=several(
        fields("name template", name=LABEL, replicas=whole(), template=fields(metadata=fields(labels=TEXTS), spec=JOB))
    ),
)
JOBSET = fields(
    "apiVersion kind metadata spec",
    apiVersion=one_of("jobset.x-k8s.io/v1alpha2"),
    kind=one_of("JobSet"),
    metadata=fields("name", name=LABEL, namespace=LABEL, labels=TEXTS, annotations=TEXTS),
    spec=SPEC,
)
