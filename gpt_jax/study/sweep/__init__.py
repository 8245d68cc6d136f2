"""Planning and training runs that are to be compared: arms, seeds, workers, SLURM, early stopping, and the results."""

from gpt_jax.study.sweep.arms import chain as chain
from gpt_jax.study.sweep.arms import cross as cross
from gpt_jax.study.sweep.arms import grid as grid
from gpt_jax.study.sweep.arms import log_uniform as log_uniform
from gpt_jax.study.sweep.arms import one_at_a_time as one_at_a_time
from gpt_jax.study.sweep.arms import sample as sample
from gpt_jax.study.sweep.arms import zipped as zipped
from gpt_jax.study.sweep.sweep import NOISE as NOISE
from gpt_jax.study.sweep.sweep import Sweep as Sweep
