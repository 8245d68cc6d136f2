"""``--k8s``: the pods that a user asks for."""

import dataclasses
import math
import re
from typing import Any

from gpt_jax.errors import UserError, did_you_mean

EXAMPLE = '--k8s="image=me/gpt_jax:1,claim=runs,nodes=2,gpus=8"'
NUMBERS = {"nodes": (1, 100_000), "gpus": (0, 64), "restarts": (0, 2**31 - 1)}
OBJECT = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"  # a name of Kubernetes (RFC 1123)
FORMS = {
    "image": (r"[\w.\-/:@]+", "an image, as me/gpt_jax:1"),
    "claim": (OBJECT, "the name of a PersistentVolumeClaim that all pods may write (ReadWriteMany)"),
    "tpu": (r"[a-z0-9-]+:\d+(x\d+)*", "TYPE:TOPOLOGY of GKE, as tpu-v5p-slice:2x2x4"),
    "mount": (r"/[\w.\-/]*[\w.\-]", "a folder of the pods, as /runs"),
    "queue": (OBJECT, "the name of a LocalQueue of Kueue"),
}


@dataclasses.dataclass(frozen=True)
class Pods:
    """Args:
    image: with this package and its dependencies.
    claim: a PersistentVolumeClaim that all pods mount, for runs and data.
    nodes: pods, of a process each.
    gpus: of a pod; 0 = CPUs, or ``tpu``.
    tpu: TYPE:TOPOLOGY of a slice of GKE, whose chips the pods share evenly.
    mount: where the claim is mounted.
    queue: a LocalQueue of Kueue, which admits all pods at once.
    restarts: of all pods after one has failed, before the JobSet fails.
    file: where the manifest is written, instead of the run directory.
    """

    image: str
    claim: str
    nodes: int = 1
    gpus: int = 0
    tpu: str = ""
    mount: str = "/runs"
    queue: str = ""
    restarts: int = 100
    file: str = ""

    @property
    def chips(self) -> int:
        """Of a pod."""
        return self._slice // self.nodes if self.tpu else self.gpus

    @property
    def resource(self) -> str:
        return "google.com/tpu" if self.tpu else "nvidia.com/gpu"

    @property
    def selector(self) -> dict[str, str]:
        """Labels of the nodes that pods are for."""
        if not self.tpu:
            return {}
        kind, _, topology = self.tpu.partition(":")
        return {"cloud.google.com/gke-tpu-accelerator": kind, "cloud.google.com/gke-tpu-topology": topology}

    @property
    def _slice(self) -> int:
        return math.prod(map(int, self.tpu.partition(":")[2].split("x")))

    def check(self) -> None:
        """Raises:
        UserError: the chips are of two kinds, or do not divide over the pods.
        """
        if self.tpu and self.gpus:
            raise UserError("a pod has GPUs or TPUs, not both", where="--k8s", fix="leave gpus or tpu out")
        if self.tpu and (self._slice % self.nodes or not self._slice):
            raise UserError(
                f"the {self._slice} chips of {self.tpu} do not divide over nodes={self.nodes}",
                where="--k8s",
                allowed="as many nodes as the slice has machines: chips / 4 for most",
            )


def pods_of(text: str) -> Pods:
    """Reads "image=me/gpt_jax:1,claim=runs,nodes=2,gpus=8".

    Raises:
      UserError: an option is missing, unknown, given twice or not allowed.
    """
    names = [field.name for field in dataclasses.fields(Pods)]
    found: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if name not in names or not equals:
            raise UserError(
                f"--k8s has no option {name!r}" if equals else f"{part!r} is not NAME=VALUE",
                where=f"--k8s={text}",
                allowed=", ".join(names),
                fix=did_you_mean(name, names) or EXAMPLE,
            )
        if name in found:
            raise UserError(f"{name} is given twice", where=f"--k8s={text}")
        found[name] = _value(name, value)
    missing = [name for name in ("image", "claim") if name not in found]
    if not {"gpus", "tpu"} & set(found):
        missing.append("gpus")  # zero has to be meant: CPUs would train for ever
    if missing:
        raise UserError(f"--k8s needs {', '.join(missing)}", where="--k8s", fix=EXAMPLE)
    pods = Pods(**found)
    pods.check()
    return pods


def _value(name: str, value: str) -> str | int:
    if name in NUMBERS:
        least, most = NUMBERS[name]
        if not re.fullmatch(r"\d{1,10}", value) or not least <= int(value) <= most:
            raise UserError(f"{name}={value} is not allowed", where="--k8s", allowed=f"{least} to {most}")
        return int(value)
    pattern, allowed = FORMS.get(name, (".+", "the name of a file"))
    if not re.fullmatch(pattern, value):
        raise UserError(f"{name}={value} is not allowed", where="--k8s", allowed=allowed)
    return value
