"""A GPT of two layers that learns the standard library: what studies of pre-training start from, seconds on a CPU core."""

from gpt_jax.configs import quickstart


def get_config():
    c = quickstart.get_config()
    c.model.update(layers=2, width=64, heads=2, context=64)
    # 0.72 / sqrt(width). With GPT-2's 0.02, models so narrow stay at the loss of single tokens for up to 100 steps.
    c.model.init = "normal(std=0.09)"
    c.train.update(batch=16, tensorboard=False, keep_best=False)
    c.sample.prompts = ()
    return c
