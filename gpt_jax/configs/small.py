"""A third of the quickstart: what studies of tuning start from, a minute on one CPU core."""

from gpt_jax.configs import quickstart


def get_config():
    c = quickstart.get_config()
    c.model.update(layers=3, width=128, heads=4)
    c.train.update(steps=400, batch=16, eval_every=400, save_every=400, tensorboard=False)
    c.sample.prompts = ()
    return c
