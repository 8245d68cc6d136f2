"""Tuning a model that there is to hold dialogues: ``--config=dialogue --config.tune.start=runs/q``.

Rates, batches and steps are for models of the quickstart's size, whose dialogues have up to 240 tokens.
"""

from gpt_jax.configs import tune


def get_config():
    c = tune.get_config("sft")
    c.model.update(context=256, position="rope")  # what is asked about was said turns before
    c.data.source = "dialogue()"
    c.train.update(batch=8, steps=600, eval_every=100, save_every=200)
    c.sample.update(prompts=("Hello!", "What is my name?"), temperature=0.5, max_new_tokens=40)
    return c
