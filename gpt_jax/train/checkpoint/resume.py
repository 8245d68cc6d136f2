"""Which knobs may change when a run is resumed, and which may not."""

import dataclasses
import enum

from gpt_jax import registry
from gpt_jax.config import Config, SampleConfig, flatten
from gpt_jax.errors import UserError
from gpt_jax.train import schedules
from gpt_jax.train.objectives.policy import Policy
from gpt_jax.train.step import objective_of


class Change(enum.Enum):
    """What a different value of a knob does to a run that has begun."""

    FREE = "the numbers stay the same, to the last bit"
    BITS = "the same mathematics in another order of operations: the last bits may differ"
    HORIZON = "free where the schedule does not look ahead to the last step, else refused"
    REFUSED = "other mathematics: no single configuration would describe the run"


_KEYS = {
    Change.FREE: """
        data.cache
        train.log_every train.eval_every train.eval_batches train.eval_stride train.save_every train.keep train.keep_best
        train.on_nonfinite train.watch_every train.profile train.tensorboard train.wandb
        eval.tasks eval.split eval.batch eval.batches eval.stride
        mesh.start_timeout mesh.heartbeat_timeout mesh.step_timeout mesh.phase_timeout
    """,
    Change.BITS: """
        model.attend model.scan model.remat
        train.accumulate train.loss_chunk
        mesh.data mesh.fsdp mesh.tensor mesh.context mesh.expert mesh.pipeline mesh.context_strategy
        mesh.rounds mesh.microbatches mesh.rules
    """,
    Change.HORIZON: """
        train.steps
    """,
    Change.REFUSED: """
        model.layers model.width model.heads model.kv_heads model.head_dim model.mlp_width model.vocab model.context
        model.attention model.position model.norm model.mlp model.block model.tied model.bias model.dropout model.init
        model.dtype model.embed_scale model.logit_softcap
        data.source data.tokenizer data.template data.valid_fraction data.pack data.seed
        tune.start tune.objective tune.adapter tune.reference tune.reward tune.samples tune.updates tune.epochs
        optim.optimizer optim.lr optim.schedule optim.warmup optim.weight_decay optim.clip optim.ema optim.groups
        train.batch train.seed train.z_loss
    """,
}
CHANGES: dict[str, Change] = {
    **{key: change for change, keys in _KEYS.items() for key in keys.split()},
    **{f"sample.{field.name}": Change.FREE for field in dataclasses.fields(SampleConfig)},
}


BESIDE = "sample.rows"  # of another number side by side, what is written may differ in its last bits
# What a policy writes, it learns from.
WRITTEN = ("sample.temperature", "sample.max_new_tokens", "sample.stop_token_ids", "sample.ignore_eos")


def check_resume(old: Config, new: Config) -> list[str]:
    """The changed knobs that may change the last bits of the numbers to come, each as "key: old -> new".

    Raises:
      UserError: a knob that is part of the mathematics has changed; all of them are named.
    """
    before, after = flatten(old), flatten(new)
    changed = [key for key in after if before[key] != after[key]]
    schedule, _ = registry.parse(new.optim.schedule, where="config.optim.schedule")
    looks_ahead = schedule not in schedules.HORIZON_FREE
    written = WRITTEN if isinstance(objective_of(new), Policy) else ()
    refused = [
        key
        for key in changed
        if CHANGES[key] is Change.REFUSED or key in written or (CHANGES[key] is Change.HORIZON and looks_ahead)
    ]
    if refused:
        values = "; ".join(f"{key}: {before[key]!r} -> {after[key]!r}" for key in refused)
        free = ", ".join(sorted(schedules.HORIZON_FREE))
        hint = (
            f" (the length may change with a schedule that needs no last step: {free})"
            if "train.steps" in refused
            else ""
        )
        raise UserError(
            f"this run began with other settings: {values}",
            where=", ".join(f"config.{key}" for key in refused),
            fix=f"use another --workdir for a new run, or put the old values back{hint}",
        )
    noted = [key for key in changed if CHANGES[key] is Change.BITS or (written and key == BESIDE)]
    return [f"{key}: {before[key]!r} -> {after[key]!r}" for key in noted]


def check_fingerprint(old: str, new: str) -> None:
    """Compares the data (content, tokenizer, order) a run began with and those it finds now; a run that began without any,
    such as an imported model, accepts what it finds.

    Raises:
      UserError: they differ, though the configuration is the same.
    """
    if old and old != new:
        raise UserError(
            f"the data are not those this run began with: fingerprint {old} -> {new}",
            where="config.data",
            fix="put the files (or the tokenizer) back as they were, or use another --workdir for a new run",
        )
