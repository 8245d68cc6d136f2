"""The adapter of a run in PEFT's form: ``PeftModel.from_pretrained(base, directory)`` reads it."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from gpt_jax.config import Config
from gpt_jax.convert.importing import make_directory
from gpt_jax.errors import UserError
from gpt_jax.interop import plan, weights
from gpt_jax.interop.family import Family
from gpt_jax.interop.plan import Part, Tensor
from gpt_jax.interop.reading import shapes
from gpt_jax.interop.rows import groups
from gpt_jax.interop.tensors import ADAPTER, dtype_of
from gpt_jax.model.init import LORA_A, LORA_B, MAGNITUDE
from gpt_jax.model.matrices import EMBEDDING, matrices
from gpt_jax.train.adapters.low_rank import LowRank
from gpt_jax.train.starting import parameters
from gpt_jax.train.step import adapter_of

TENSORS = "adapter_model.safetensors"
PREFIX = "base_model.model."  # of a model within PEFT's
MERGED = "leave out --adapter: then it is merged into the model"


def check(config: Config, where: str) -> LowRank:
    """The adapter of a run.

    Raises:
      UserError: it has none.
    """
    adapter = adapter_of(config)
    if not isinstance(adapter, LowRank):
        raise UserError("this run has no adapter", where=where, fix="leave the flag out")
    return adapter


def export(config: Config, workdir: Path, target: Path, step: int | None, family: Family, dtype: str) -> int:
    """Writes adapter_config.json and adapter_model.safetensors; returns the checkpoint's step.

    Raises:
      UserError: PEFT's form has no place for something that is trained, or the family cannot express the model.
      StorageError: the disk refuses.
    """
    adapter = check(config, "--adapter")
    step, trained = parameters.trained_of_run(config, workdir, step)
    base = parameters.read_base(config, workdir)
    arrays = parameters.by_path(adapter.apply(base, trained))
    model = Parts(config, family, trained, parameters.by_path(base))
    changed, whole = model.changed(), model.whole()

    def fill(folder: Path) -> None:
        held = {PREFIX + name: array.astype(dtype_of(dtype)) for one in changed for name, array in one.arrays.items()}
        for tensor in whole:
            held[PREFIX + tensor.name] = weights.make(tensor, model.said, arrays, dtype_of(dtype))
        save_file(
            {name: np.ascontiguousarray(array) for name, array in held.items()}, folder / TENSORS, {"format": "pt"}
        )
        said = _settings(config, adapter, changed, sorted({_module(tensor) for tensor in whole}))
        (folder / ADAPTER).write_text(json.dumps(said, indent=2) + "\n", "utf-8")

    make_directory(target, fill)
    return step


@dataclass(frozen=True)
class Changed:
    """A module of theirs with a low-rank change.

    Args:
      parts: of our weights that are changed in it; its rank is so many times ours.
      inputs_first: whether its matrix has inputs before outputs.
      arrays: theirs, by name.
    """

    module: str
    parts: int
    inputs_first: bool
    arrays: dict[str, np.ndarray]


class Parts:
    """What a run trains, as parts of the tensors of a family.

    Args:
      trained: what is trained, in the stacked layout.
      base: path -> parameter that the adapter is applied to.

    Raises:
      UserError: the family cannot express the model.
    """

    def __init__(self, config: Config, family: Family, trained: dict[str, Any], base: dict[str, np.ndarray]):
        _, self.said = family.settings(config.model)
        self._tensors = plan.tensors(family.rows, self.said, shapes(self.said) | shapes(config.model))
        self._config, self._trained, self._base = config, trained, base
        self._adapter = check(config, "--adapter")

    def changed(self) -> list[Changed]:
        """Every module with a low-rank change.

        Raises:
          UserError: PEFT's form cannot express one.
        """
        return [self._changed(tensor) for tensor in self._tensors if self._kinds(tensor) - {""} == {"changed"}]

    def whole(self) -> list[Tensor]:
        """The tensors of the modules of which some are trained as they are.

        Raises:
          UserError: a module has a low-rank change, too, or shares its tensor with another.
        """
        found = {_module(tensor) for tensor in self._tensors if "whole" in self._kinds(tensor)}
        for tensor in self._tensors:
            if _module(tensor) in found and "changed" in self._kinds(tensor):
                raise _refused(f"the matrix of {_module(tensor)} is changed by a low rank, and its bias is trained")
        if self._config.model.tied and _at(self._trained, EMBEDDING) is not None:
            raise _refused("the embedding is trained, and PEFT keeps a readout that is tied to it as it was")
        return [tensor for tensor in self._tensors if _module(tensor) in found]

    def _kinds(self, tensor: Tensor) -> set[str]:
        """How the parts of a tensor are trained: "changed", "whole", or "" for not at all.

        Raises:
          UserError: some parts as they are, and others not.
        """
        found = [_at(self._trained, part.path) for part in tensor.parts]
        kinds = {"" if one is None else "changed" if isinstance(one, dict) else "whole" for one in found}
        if "whole" in kinds and len(kinds) > 1:
            raise _refused(f"{tensor.name} holds several weights, of which some are trained whole")
        return kinds

    def _changed(self, tensor: Tensor) -> Changed:
        row, known = tensor.row, matrices(self._config.model)[tensor.parts[0].path]
        if known.experts:
            raise _refused(f"{tensor.name} holds the matrices of several experts")
        if known.lookup:
            raise _refused("a changed embedding is another tensor in PEFT, and changes no readout that is tied to it")
        axes, order = row.axes.split(), groups(row.order)
        inputs, outputs = axes[: known.inputs], axes[known.inputs :]
        sides = [set(group) - {"p"} for group in order]
        if sides not in ([set(inputs), set(outputs)], [set(outputs), set(inputs)]):
            raise _refused(f"inputs and outputs are mixed in the axes of {tensor.name}")
        inputs_first = sides[0] == set(inputs)
        theirs_in, theirs_out = order if inputs_first else order[::-1]
        found = [self._of(part) for part in tensor.parts]
        rank, a_RI, b_OR = self._adapter.given.rank, [], []
        for place, own in enumerate(found):
            if own is None:
                continue
            a_RI.append(_ordered(own[LORA_A], [*inputs, "r"], ["r", *theirs_in]).reshape(rank, -1))
            b = np.zeros((len(found), *own[LORA_B].shape), own[LORA_B].dtype)
            b[place] = own[LORA_B]
            b_OR.append(_outputs(b, ["r", *outputs], [*theirs_out, "r"]).reshape(-1, rank))
        module = _module(tensor)
        held = {f"{module}.lora_A.weight": np.concatenate(a_RI), f"{module}.lora_B.weight": np.concatenate(b_OR, 1)}
        if self._adapter.magnitude:
            norms = np.stack(
                [self._norm(part, known.inputs, own) for part, own in zip(tensor.parts, found, strict=True)]
            )
            held[f"{module}.lora_magnitude_vector"] = _outputs(norms, outputs, theirs_out).reshape(-1)
        return Changed(module, len(a_RI), inputs_first, held)

    def _of(self, part: Part) -> dict[str, np.ndarray] | None:
        found = _at(self._trained, part.path)
        return found and {name: _of_layer(np.asarray(leaf), part) for name, leaf in found.items()}

    def _norm(self, part: Part, inputs: int, own: dict[str, np.ndarray] | None) -> np.ndarray:
        w = _of_layer(self._base[part.path], part)
        norm = np.sqrt(np.square(w).sum(tuple(range(inputs))))
        return norm if own is None else norm + own[MAGNITUDE]


def _settings(config: Config, adapter: LowRank, changed: list[Changed], whole: list[str]) -> dict[str, Any]:
    """adapter_config.json."""
    rank, alpha = adapter.given.rank, adapter.given.alpha
    fused = {one.module: one.parts for one in changed if one.parts > 1}
    # The scale is alpha / rank, or alpha / sqrt(rank), for the rank of theirs too.
    alphas = {name: alpha * (math.sqrt(parts) if adapter.given.rs else parts) for name, parts in fused.items()}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": config.tune.start,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": adapter.given.rs,
        "use_dora": adapter.magnitude,
        "fan_in_fan_out": any(one.inputs_first for one in changed),
        "target_modules": [one.module for one in changed],
        "rank_pattern": {name: parts * rank for name, parts in fused.items()},
        "alpha_pattern": alphas,
        "modules_to_save": whole or None,
    }


def _module(tensor: Tensor) -> str:
    return tensor.name.rpartition(".")[0]


def _at(tree: Any, path: str) -> Any:
    """What is at a path of a tree; None where there is nothing."""
    for name in path.split("/"):
        if not isinstance(tree, dict) or name not in tree:
            return None
        tree = tree[name]
    return tree


def _of_layer(array: np.ndarray, part: Part) -> np.ndarray:
    return array if part.layer is None else array[part.layer]


def _outputs(array: np.ndarray, have: list[str], wanted: list[str]) -> np.ndarray:
    """An array of several parts in the order of theirs, where one part alone has no letter."""
    return _ordered(array, ["p", *have], wanted) if "p" in wanted else _ordered(array[0], have, wanted)


def _ordered(array: np.ndarray, have: list[str], wanted: list[str]) -> np.ndarray:
    return array.transpose([have.index(letter) for letter in wanted])


def _refused(what: str) -> UserError:
    return UserError(f"PEFT's form cannot say this: {what}", where="--adapter=apart", fix=MERGED)
