"""Batches of what the policy has written: rollout r is a function of the state at its beginning, of the seed, and of r.

So nothing but the state is stored, and a run that was stopped between two rollouts goes on as if it had not been.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpt_jax.data.batches import Shuffled
from gpt_jax.mesh import mesh as meshes
from gpt_jax.sample.decode import Decoder
from gpt_jax.train.advantages import Scores
from gpt_jax.train.forward import HEADS, FixedModel
from gpt_jax.train.objectives import Batch
from gpt_jax.train.objectives.policy import Policy
from gpt_jax.train.rollouts import measures, shown
from gpt_jax.train.rollouts.rewarding import Rewards
from gpt_jax.train.rollouts.scoring import Scorer
from gpt_jax.train.rollouts.writing import Writer, Written, seeds
from gpt_jax.train.run import Run
from gpt_jax.train.starting import policies
from gpt_jax.train.step import State, read_params

LENGTHS = 4  # shapes that rollouts come in: quarters of the longest
MULTIPLE = 8  # of their lengths
VALIDATION = 2**32 - 1  # in place of a rollout's number, in seeds of evaluation

Arrays = dict[str, np.ndarray]


@dataclass
class Rollouts:
    """See ``feeds.Feed``.

    Attributes:
      kl: what a nat of divergence costs; it changes where the objective has a target.
    """

    run: Run
    policy: Policy
    rewards: Rewards
    reference: FixedModel | None
    kl: float
    waits = True
    _made: tuple[int, Arrays, dict[str, float]] | None = field(default=None, repr=False)
    _decoder: Decoder | None = field(default=None, repr=False)

    @staticmethod
    def open(run: Run, notes: dict[str, Any]) -> "Rollouts":
        policy = run.program.recipe.objective
        assert isinstance(policy, Policy)
        kl = notes["kl"] if "kl" in notes else policy.kl
        return Rollouts(run, policy, Rewards.of(run.config, run.workdir), run.reference_model, kl)

    @property
    def every(self) -> int:
        return self.run.config.tune.updates

    def batch(self, k: int, state: State) -> tuple[Batch, dict[str, float]]:
        number, update = divmod(k, self.every)
        if self._made is None or self._made[0] != number:
            assert update == 0, "a run goes on at the beginning of a rollout"
            self._made = (number, *self._rollout(number, state["params"]))
        _, arrays, said = self._made
        rows = self._taken(number, update)
        return meshes.put_batch({name: array[rows] for name, array in arrays.items()}, self.run.mesh), said

    def evaluate(self, state: State, step: int | None, stop: Callable[[], bool]) -> dict[str, float] | None:
        """Rewards of one drawn and one greedy answer to each prompt, and how far the drawn ones are from the reference."""
        trained, asked = read_params(state), self._validation
        decoder, writer = self._ready(trained)
        count = len(asked["prompt"])
        given = asked["prompt"], asked["row"], seeds(self.run.config.train.seed, VALIDATION, count=count)
        if stop():
            return None
        drawn, greedy = writer.write(decoder, *given), writer.write(decoder, *given, greedy=True)
        if stop():
            return None
        total_N, parts = self.rewards.of_some(drawn.completions)
        found = measures.described(drawn, total_N, parts)
        found["greedy"] = measures.mean(self.rewards(greedy.completions)[0])
        if self.reference is not None:
            arrays = self._arrays(drawn)
            log_ratio_NT = self._log_ratio(arrays, self._scorer.policy(trained, arrays)["old"])
            found |= measures.divergence(arrays["weights"], log_ratio_NT)
        if step is not None:
            shown.write(self.run.workdir, step, drawn, total_N)
        return found

    def answers(self, state: State, prompts: int, samples: int, seed: int) -> tuple[Written, dict[str, np.ndarray]]:
        """Several completions of each of the first validation prompts, those of a prompt beside each other, and their
        rewards [N] by name, "reward" being the sum. They are functions of the parameters and of the seed."""
        decoder, writer = self._ready(read_params(state))
        asked = {name: np.repeat(values[:prompts], samples) for name, values in self._validation.items()}
        written = writer.write(decoder, asked["prompt"], asked["row"], seeds(seed, count=len(asked["prompt"])))
        total_N, parts = self.rewards(written.completions)
        return written, {**parts, "reward": total_N}

    def covered(self) -> str:
        return f"over {len(self._validation['prompt']):,} prompts (train.eval_batches)"

    def notes(self) -> dict[str, Any]:
        return {"kl": self.kl} if self.policy.target else {}

    @functools.cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self.run, self.policy, self.reference)

    @functools.cached_property
    def _prompts(self) -> Shuffled:
        config = self.run.config
        return self.run.data.train.batches(policies.rows(config) // config.tune.samples, config.data.seed)

    @functools.cached_property
    def _validation(self) -> dict[str, Any]:
        fixed = self.run.validation
        batches = [fixed[k] for k in range(len(fixed))]
        kept = np.concatenate([batch["weights"][:, 0] > 0 for batch in batches])
        return {name: np.concatenate([batch[name] for batch in batches])[kept] for name in ("prompt", "row")}

    def _ready(self, trained: dict) -> tuple[Decoder, Writer]:
        """What writes with these parameters. Nothing is compiled anew for others."""
        recipe, tokenizer = self.run.program.recipe, self.run.data.tokenizer
        assert tokenizer is not None
        model = {name: tree for name, tree in trained.items() if name != HEADS}
        if not recipe.adapter.alone:
            model = self.run.program.whole(trained, self.run.fixed)
        known = self._decoder
        self._decoder = Decoder(self.run.config.model, model) if known is None else known.with_params(model)
        return self._decoder, Writer.of(self.run.config, self._decoder, tokenizer)

    def _taken(self, number: int, update: int) -> np.ndarray:
        """The rows of an update: each epoch takes all of them, in an order of its own."""
        config = self.run.config
        epoch, part = divmod(update, config.tune.updates // config.tune.epochs)
        order = np.random.default_rng([config.data.seed % 2**32, number, epoch]).permutation(policies.rows(config))
        return order[part * config.train.batch : (part + 1) * config.train.batch]

    def _rollout(self, number: int, trained: dict) -> tuple[Arrays, dict[str, float]]:
        """The arrays of all rows, and what is reported of them."""
        config, policy = self.run.config, self.policy
        written, total_N, said = self._written(number, trained)
        arrays = self._arrays(written)
        weights_NT, found = arrays["weights"], self._scorer.policy(trained, arrays)
        said |= measures.gap(written, weights_NT, found["raw"])
        nothing_NT = np.zeros(weights_NT.shape)
        log_ratio_NT = nothing_NT
        if self.reference is not None:
            log_ratio_NT = self._log_ratio(arrays, found["old"])
            said |= measures.divergence(weights_NT, log_ratio_NT)
        real_N = np.isfinite(total_N)
        scores = Scores(
            np.where(real_N, total_N, 0),
            real_N,
            weights_NT,
            -self.kl * log_ratio_NT if policy.penalises else nothing_NT,
            np.where(weights_NT > 0, found["value"].astype(float), 0) if policy.critic else nothing_NT,
            config.tune.samples,
        )
        estimated = policy.advantage(scores)
        learned_N = real_N & np.array([c.ended or not policy.mask_cut for c in written.completions])
        said["left_out"] = float(1 - learned_N.mean())
        arrays |= {name: found[name] for name in ("old", "value") if name in found}
        arrays["advantage"] = estimated.advantage_NT.astype(found["old"].dtype)
        arrays["weights"] = weights_NT * learned_N[:, None].astype(np.float32)
        arrays["limit"] = np.full(len(written), config.sample.max_new_tokens, np.float32)
        if estimated.returns_NT is not None:
            arrays["returns"] = estimated.returns_NT.astype(found["old"].dtype)
        if policy.target:
            said["kl_coefficient"] = self.kl
            self.kl = adapted(self.kl, said["kl"], policy.target, len(written), policy.horizon)
        return {name: arrays[name] for name in policy.arrays(1, 1)}, said

    def _written(self, number: int, trained: dict) -> tuple[Written, np.ndarray, dict[str, float]]:
        """Completions, their rewards, and what is reported of them. Prompts whose completions are all worth the same make
        room for others, as often as the objective says."""
        samples, attempts = self.run.config.tune.samples, 1 + self.policy.resample
        decoder, writer = self._ready(trained)
        kept: list[tuple[Written, np.ndarray]] = []
        for attempt in range(attempts):
            asked = self._prompts[number * attempts + attempt]
            prompts, rows = (np.repeat(asked[name], samples) for name in ("prompt", "row"))
            drawn = seeds(self.run.config.train.seed, number, attempt, count=len(prompts))
            written = writer.write(decoder, prompts, rows, drawn)
            total_N, parts = self.rewards.of_some(written.completions)
            dead_N = np.repeat(measures.dead(total_N.reshape(-1, samples)), samples)
            if not attempt:
                first, dead = (written, total_N), (written.taken(dead_N), total_N[dead_N])
                said = measures.described(written, total_N, parts)
                said |= {"dead_groups": float(dead_N.mean())} if samples > 1 else {}
            kept.append((written.taken(~dead_N), total_N[~dead_N]))
            if attempts == 1 or sum(len(part) for part, _ in kept) >= len(prompts):
                break
        if attempts == 1:
            return *first, said
        kept.append(dead)  # what stays empty they fill
        said["attempts"] = attempt + 1.0
        joined = Written.joined([part for part, _ in kept])
        every = np.arange(len(prompts))
        return joined.taken(every), np.concatenate([values for _, values in kept])[: len(prompts)], said

    def _log_ratio(self, arrays: Arrays, log_prob_NT: np.ndarray) -> np.ndarray:
        """log policy / reference of what was written, float64; 0 elsewhere. The reference's own part joins the arrays."""
        arrays["reference"] = self._scorer.reference(arrays)
        return np.where(arrays["weights"] > 0, log_prob_NT.astype(float) - arrays["reference"], 0)

    def _arrays(self, written: Written) -> Arrays:
        """tokens, targets, weights [N, T] of completions after their prompts, T one of few lengths."""
        step = -(-self.run.longest_row // (LENGTHS * MULTIPLE)) * MULTIPLE
        return written.arrays(lambda needed: min(self.run.config.model.context, -(-needed // step) * step))


def adapted(kl: float, divergence: float, target: float, rows: int, horizon: int) -> float:
    """The coefficient after a rollout of ``rows`` completions (Ziegler et al. 2019, section 2.2)."""
    error = min(max(divergence / target - 1, -policies.MOST_CHANGE), policies.MOST_CHANGE)
    return kl * (1 + error * rows / horizon)
