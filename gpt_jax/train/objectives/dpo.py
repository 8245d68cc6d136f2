"""Direct preference optimisation: the reward is the policy's log-ratio to the reference (Rafailov et al. 2023)."""

from typing import Annotated

import jax

from gpt_jax.limits import Limits, Positive
from gpt_jax.registry import register
from gpt_jax.train.objectives import Batch
from gpt_jax.train.objectives.preference import Completions, Preference


@register("train.objectives", "dpo", examples=("dpo", "dpo(beta=0.3, smoothing=0.2)"))
class DPO(Preference):
    """-log sigmoid(h), h = beta (log-ratio of the chosen - of the rejected completion), over whole completions (equation 7).

    With ``smoothing`` e the label is wrong with that probability: (1 - e) -log sigmoid(h) + e -log sigmoid(-h), which has
    its minimum at a finite h (Mitchell 2023, conservative DPO).
    """

    reference = True

    def __init__(self, *, beta: Positive = 0.1, smoothing: Annotated[float, Limits(0, 0.5, below=True)] = 0.0):
        self.beta, self.smoothing = beta, smoothing

    def scores(self, pairs: Completions, batch: Batch) -> tuple[jax.Array, jax.Array]:
        reward_BC = self.beta * pairs.log_ratio_BC(batch)
        h_B = reward_BC[:, 0] - reward_BC[:, 1]
        right_B, wrong_B = jax.nn.softplus(-h_B), jax.nn.softplus(h_B)
        return (1 - self.smoothing) * right_B + self.smoothing * wrong_B, reward_BC
