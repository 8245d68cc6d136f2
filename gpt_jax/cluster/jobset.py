"""A training as a JobSet of Kubernetes (jobset.x-k8s.io/v1alpha2): a pod for each node, found by the first one's name."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from gpt_jax.cluster.devices import check
from gpt_jax.cluster.pods import Pods, pods_of
from gpt_jax.config import Config
from gpt_jax.errors import INTERNAL, NON_FINITE, STORAGE, USER_ERROR
from gpt_jax.storage import make_folder, write_atomically

FILE, JOB = "jobset.yaml", "train"
PORT = 12345  # of process 0
GRACE = 120  # seconds to save, from the signal on
LONGEST = 40  # letters of the name; those of its pods have at most 63
SHM = "/dev/shm"
INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
# A pod that ends so would end so again: nothing is started anew.
FINAL = [USER_ERROR, INTERNAL, STORAGE, NON_FINITE]


def write(config: Config, workdir: Path, words: Sequence[str], options: str) -> str:
    """Writes the manifest of a training into its run directory, or to the file that the options name; what to do with it.

    Args:
      config: the settings that the words give.
      words: the flags of the verb train for the pods, without --workdir: they use the folder of that name on the claim.
      options: see ``pods_of``.

    Raises:
      UserError: an option is missing, unknown or not allowed, or the mesh does not fit the pods' devices.
    """
    pods = pods_of(options)
    check(config, pods.nodes * max(pods.chips, 1))
    path = Path(pods.file).expanduser() if pods.file else workdir / FILE
    made = manifest(name_of(workdir), words, pods)
    make_folder(path.parent)
    write_atomically(path, yaml.safe_dump(made, sort_keys=False, width=120))
    name = made["metadata"]["name"]
    each = f"{pods.chips} {'TPU' if pods.tpu else 'GPU'} chips" if pods.chips else "CPUs"
    return (
        f"{path}: JobSet {name}, {pods.nodes} {'pod' if pods.nodes == 1 else 'pods'} with {each} each; "
        f"the run is {pods.mount}/{name} of the claim {pods.claim}\n"
        f"start:  kubectl apply --filename={shlex.quote(str(path))}\n"
        f"follow: kubectl logs --follow job/{name}-{JOB}-0\n"
        f"stop:   kubectl delete jobset {name}    # applied again, it resumes"
    )


def name_of(workdir: Path) -> str:
    """A DNS label from a run directory's name."""
    letters = re.sub(r"[^a-z0-9]+", "-", workdir.resolve().name.lower())[:LONGEST].strip("-")
    return letters if re.match("[a-z]", letters) else f"run-{letters}".strip("-")


def manifest(name: str, words: Sequence[str], pods: Pods) -> dict[str, Any]:
    """The JobSet. Its Jobs start no pod a second time: when a pod ends, all are started again, and resume."""
    queue = {"labels": {"kueue.x-k8s.io/queue-name": pods.queue}} if pods.queue else {}
    final = {"name": "final", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": name, **queue},
        "spec": {
            "network": {"enableDNSHostnames": True, "subdomain": name},
            # No new process meets an old one: the coordinator refuses another incarnation of one that it knows.
            "failurePolicy": {
                "maxRestarts": pods.restarts,
                "restartStrategy": "BlockingRecreate",
                "rules": [final],
            },
            "replicatedJobs": [{"name": JOB, "replicas": 1, "template": {"spec": _job(name, words, pods)}}],
        },
    }


def _job(name: str, words: Sequence[str], pods: Pods) -> dict[str, Any]:
    codes = {"containerName": JOB, "operator": "In", "values": FINAL}
    volumes = [
        {"name": "runs", "persistentVolumeClaim": {"claimName": pods.claim}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},  # NCCL wants more than a container's 64 MB
    ]
    return {
        "parallelism": pods.nodes,
        "completions": pods.nodes,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": codes}]},
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": GRACE,
                **({"nodeSelector": pods.selector} if pods.selector else {}),
                "containers": [_container(name, words, pods)],
                "volumes": volumes,
            }
        },
    }


def _container(name: str, words: Sequence[str], pods: Pods) -> dict[str, Any]:
    joined = [
        {"name": "JAX_COORDINATOR_ADDRESS", "value": f"{name}-{JOB}-0-0.{name}:{PORT}"},
        {"name": "JAX_NUM_PROCESSES", "value": str(pods.nodes)},
        {"name": "JAX_PROCESS_ID", "valueFrom": {"fieldRef": {"fieldPath": INDEX}}},
    ]
    chips = {pods.resource: str(pods.chips)} if pods.chips else {}
    return {
        "name": JOB,
        "image": pods.image,
        "command": ["python", "-m", "gpt_jax", "train", *words, f"--workdir={pods.mount}/{name}"],
        "ports": [{"containerPort": PORT}],
        "env": joined,
        **({"resources": {"limits": chips}} if chips else {}),
        "volumeMounts": [{"name": "runs", "mountPath": pods.mount}, {"name": "shm", "mountPath": SHM}],
    }
