"""How the parameters of one model become those that another begins with: by rule, or refused by name.

A pure function of two models, the parameters of the first and a key. What a rule keeps is the same function to rounding;
what changes it is said in a line.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping

import jax
import numpy as np

from gpt_jax import registry
from gpt_jax.backend import host_device
from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.interop.reading import shapes as shapes_of
from gpt_jax.model import gpt, init
from gpt_jax.train.starting.places import WHERE
from gpt_jax.train.starting.stacks import Arrays, Shapes, stacked, unrolled, unrolled_shapes
from gpt_jax.tree_paths import path_of

SIZES = ("layers", "width", "heads", "head_dim", "mlp_width")  # parameters of others cannot be made into these
CALLS = ("attention", "position", "norm", "mlp", "block", "embed_scale", "logit_softcap", "dtype")
EMBEDDING, READOUT, READOUT_BIAS = "embed/tokens/w", "readout/w", "readout/bias"
VOCABULARY = {EMBEDDING: 0, READOUT: 1, READOUT_BIAS: 0}  # path -> axis of token ids
TABLE = "embed/position/w"  # of learned positions
POSITION = re.compile(r"(^|/)position/")
KV = re.compile(r"/attention/[kv]/(w|bias)$")
PAIRED = "differential"  # its heads are not grouped by neighbours
BIAS = re.compile(r"/bias$")
NEUTRAL = re.compile(r"/bias$|/residual/skip$|/attention/(head_scale|before|after)$")  # at their initial values
NOISE = 0.01  # of new rows, as a share of the deviation of the old ones
LISTED = 6  # names in a message


@dataclasses.dataclass(frozen=True)
class Mapped:
    """``arrays``: path -> parameter, in the stacked layout; ``notes``: what is not as it was, a line each."""

    arrays: Arrays
    notes: list[str]


@dataclasses.dataclass
class Work:
    """A mapping under way; the rules change ``arrays``, which have the paths of unrolled layers, and add ``notes``.

    Attributes:
      old, new: the models.
      shapes: what the new one has, with the paths of unrolled layers.
      ids: that the old one's tokenizer has; rows of others were not trained.
      needed: ids of the data; up to ``new.vocab``.
      key: of what is drawn.
    """

    old: ModelConfig
    new: ModelConfig
    arrays: Arrays
    shapes: Shapes
    ids: int
    needed: int
    key: jax.Array
    notes: list[str] = dataclasses.field(default_factory=list)

    def changed(self, knob: str) -> bool:
        return getattr(self.old, knob) != getattr(self.new, knob)

    def line(self, knob: str, more: str = "") -> None:
        text = f"model.{knob}: {getattr(self.old, knob)} -> {getattr(self.new, knob)}"
        self.notes.append(f"{text}; {more}" if more else text)

    def absent(self) -> list[str]:
        return [path for path in self.shapes if path not in self.arrays]

    def extra(self) -> list[str]:
        return [path for path in self.arrays if path not in self.shapes]

    def initial(self, paths: list[str]) -> Arrays:
        """The values that parameters of the new model have before training."""
        model, period = dataclasses.replace(self.new, scan=True), len(self.new.attentions)

        def make(key: jax.Array) -> dict[str, jax.Array]:
            leaves = jax.tree_util.tree_leaves_with_path(gpt.init(model, key))
            made = {path_of(keys): leaf for keys, leaf in leaves}
            # What nobody asks for is not computed.
            return {
                path: made[path] for path in made if set(unrolled_shapes({path: made[path].shape}, period)) & set(paths)
            }

        with jax.default_device(host_device()):
            found = unrolled({path: np.asarray(leaf) for path, leaf in jax.jit(make)(self.key).items()}, period)
        return {path: found[path] for path in paths}


def mapped(
    old: ModelConfig,
    arrays: Mapping[str, np.ndarray],
    new: ModelConfig,
    key: jax.Array,
    ids: int = 0,
    needed: int = 0,
) -> Mapped:
    """The parameters that ``new`` begins with, made from those of ``old``.

    Args:
      arrays: path -> parameter, in the stacked layout.
      ids: token ids that the old model was trained with; 0 = its whole vocabulary.
      needed: token ids of the data; 0 = no more than those.

    Raises:
      UserError: there is no rule for a difference; it is named.
    """
    check(old, new)
    shapes, before, after = shapes_of(new), len(old.attentions), len(new.attentions)
    ids = ids or old.vocab
    views = unrolled(arrays, before)
    work = Work(old, new, dict(views), unrolled_shapes(shapes, after), ids, max(needed, ids), key)
    for rule in RULES:
        rule(work)
    if work.absent() or work.extra():
        raise _no_rule(work)
    for path, shape in work.shapes.items():
        if work.arrays[path].shape != shape:
            there, here = list(work.arrays[path].shape), list(shape)
            raise UserError(f"{path} is {there} in the model that training starts from, and {here} here", where=WHERE)
    for knob in CALLS:
        if work.changed(knob) and not any(note.startswith(f"model.{knob}:") for note in work.notes):
            work.line(knob)
    if _factors(old) != _factors(new):
        work.line("init", "its factors of scores and logits differ")
    same = before == after and work.arrays.keys() == views.keys()
    same = same and all(work.arrays[path] is view for path, view in views.items())
    return Mapped(dict(arrays) if same else stacked(work.arrays, shapes, after), work.notes)


def check(old: ModelConfig, new: ModelConfig) -> None:
    """
    Raises:
      UserError: the models differ in a size that no rule changes.
    """
    for knob in SIZES:
        there, here = getattr(old, knob), getattr(new, knob)
        if there != here:
            raise UserError(
                f"model.{knob} is {there} in the model that training starts from, and {here} here",
                where=f"config.model.{knob}",
                allowed=str(there),
                fix=f"--config.model.{knob}={there}; a model of another size is trained from scratch, or distilled",
            )
    if old.tied is False and new.tied:
        raise UserError(
            "the model that training starts from has a readout of its own, which would be lost",
            where="config.model.tied",
            allowed="false",
        )


def _vocabulary(work: Work) -> None:
    """Old rows are kept; new ones, and those of ids that the old tokenizer had not, are the mean and a little noise."""
    old, new, ids = work.old.vocab, work.new.vocab, work.ids
    if new < min(old, ids):
        raise UserError(
            f"model.vocab is {new}, and the model that training starts from was trained with {ids} token ids",
            where="config.model.vocab",
            allowed=f"{ids} or more",
        )
    drawn = np.array([i for i in range(new) if i >= old or ids <= i < work.needed], int)
    if old == new and not len(drawn):
        return
    for number, (path, axis) in enumerate(VOCABULARY.items()):
        if path in work.arrays:
            work.arrays[path] = _resized(work.arrays[path], axis, work, drawn, jax.random.fold_in(work.key, number))
    rows = f"{len(drawn)} new rows are the mean of the others and a little noise" if len(drawn) else "unused rows go"
    work.line("vocab", rows)


def _resized(leaf: np.ndarray, axis: int, work: Work, drawn: np.ndarray, key: jax.Array) -> np.ndarray:
    rows = np.moveaxis(leaf, axis, 0)
    trained = rows[: work.ids]
    made = np.zeros((work.new.vocab, *rows.shape[1:]), leaf.dtype)
    made[: len(rows)] = rows[: work.new.vocab]
    with jax.default_device(host_device()):
        noise = np.asarray(jax.random.normal(key, (len(drawn), *rows.shape[1:])))
    made[drawn] = trained.mean(0) + NOISE * trained.std(0) * noise
    return np.ascontiguousarray(np.moveaxis(made, 0, axis))


def _readout(work: Work) -> None:
    if work.old.tied and not work.new.tied:
        work.arrays[READOUT] = np.ascontiguousarray(work.arrays[EMBEDDING].T)
        work.line("tied", "the readout begins as the embedding")


def _positions(work: Work) -> None:
    """Tables of the same scheme are kept as far as they go; another scheme begins anew."""
    if work.changed("position") or work.changed("attention"):
        if registry.parse(work.old.position)[0] != registry.parse(work.new.position)[0]:
            left = [path for path in work.arrays if path.startswith("embed/position/")]
        else:
            left = []
        left += [path for path in work.extra() if POSITION.search(path)]
        for path in left:
            work.arrays.pop(path, None)
        begun = [path for path in work.absent() if POSITION.search(path)]
        work.arrays |= work.initial(begun) if begun else {}
        knob = "position" if work.changed("position") else "attention"
        parts = [
            *(["the old one's parameters are left out"] if left else []),
            *(["its parameters begin anew"] if begun else []),
        ]
        if parts:
            work.line(knob, ", ".join(parts))
    if TABLE in work.arrays and work.changed("context") and registry.parse(work.new.position)[0] == "learned":
        table, rows = work.arrays[TABLE], work.new.context
        if rows > len(table):
            work.arrays[TABLE] = np.concatenate([table, work.initial([TABLE])[TABLE][len(table) :]])
            work.line("context", f"positions from {len(table)} on begin untrained")
        else:
            work.arrays[TABLE] = table[:rows]
            work.line("context", "the first positions are kept")


def _kv_heads(work: Work) -> None:
    """Fewer: the mean of neighbours, whose queries then share them (Ainslie et al. 2023, section 2.1). More: repeated, which
    is the same function."""
    if not work.changed("kv_heads"):
        return
    there, here = work.old.kv_heads, work.new.kv_heads
    mixed = any(registry.parse(call)[0] == PAIRED for call in (*work.old.attentions, *work.new.attentions))
    if mixed or there % here and here % there:
        raise UserError(
            f"{there} key/value heads cannot become {here}" + (f" with {PAIRED} attention" if mixed else ""),
            where="config.model.kv_heads",
            allowed=str(there) if mixed else f"{there}, or a divisor or multiple of it",
        )
    for path, leaf in work.arrays.items():
        if KV.search(path) and leaf.shape[-2] == there:
            if here < there:
                shape = (*leaf.shape[:-2], here, there // here, leaf.shape[-1])
                work.arrays[path] = leaf.reshape(shape).mean(-2)
            else:
                work.arrays[path] = np.repeat(leaf, here // there, axis=-2)
    work.line("kv_heads", "means of neighbours" if here < there else "repeated")


def _biases(work: Work) -> None:
    """Those that the new model has not may go where they are zero."""
    lost = [path for path in work.extra() if BIAS.search(path)]
    if filled := [path for path in lost if work.arrays[path].any()]:
        raise UserError(
            f"the model that training starts from has biases that are not zero, and would be lost: {_listed(filled)}",
            where="config.model.bias",
            allowed=repr(work.old.bias),
        )
    for path in lost:
        del work.arrays[path]


def _neutral(work: Work) -> None:
    """What changes nothing at its initial value may begin so."""
    begun = [path for path in work.absent() if NEUTRAL.search(path)]
    if begun:
        work.arrays |= work.initial(begun)
        names = dict.fromkeys(path.rpartition("/")[2] for path in begun)
        work.notes.append(f"new parameters begin where they change nothing: {', '.join(names)}")


RULES: tuple[Callable[[Work], None], ...] = (_vocabulary, _readout, _positions, _kv_heads, _biases, _neutral)


def _factors(model: ModelConfig) -> tuple[float, float]:
    scheme = init.scheme(model)
    return scheme.logits, scheme.scale(model.head_dim)


def _no_rule(work: Work) -> UserError:
    knobs = [knob for knob in ("attention", "position", "norm", "mlp", "block", "bias", "tied") if work.changed(knob)]
    absent, extra = work.absent(), work.extra()
    parts = [
        f"these have no values to begin with: {_listed(absent)}" if absent else "",
        f"these would be lost: {_listed(extra)}" if extra else "",
    ]
    return UserError(
        f"the parameters are not those of the model that training starts from; {'; '.join(filter(None, parts))}",
        where=", ".join(f"config.model.{knob}" for knob in knobs) or WHERE,
        allowed=", ".join(f"model.{knob} = {getattr(work.old, knob)!r}" for knob in knobs),
    )


def _listed(paths: list[str]) -> str:
    """Their names, those of layers once."""
    names = list(dict.fromkeys(re.sub(r"^blocks/\d+/", "blocks/*/", path) for path in paths))
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
