"""Every preset of ``configs/tune.py`` trains for two steps from a small run and says what it should:

python -m tests.train.starting.every_preset
"""

import tempfile
from pathlib import Path

import launch
from gpt_jax.configs import rl, tune
from gpt_jax.train.record.metrics import read_summary

SHORT = [
    "--config.train.steps=2",
    "--config.train.batch=8",
    "--config.train.eval_batches=1",
    "--config.sample.prompts=()",
]
START = ["--config=quickstart", "--config.model.layers=1", "--config.model.width=24", "--config.model.heads=2"]
# Method -> what is better the higher or lower it is, of validation.
SHOWN = {
    **dict.fromkeys(rl.METHODS, "valid/reward"),
    "classify": "valid/accuracy",
    "reward": "valid/accuracy",
    "dpo": "valid/accuracy",
    "ipo": "valid/accuracy",
    "orpo": "valid/accuracy",
    "simpo": "valid/accuracy",
    "kto": "valid/loss",
    "distill": "valid/divergence",
    "lora": "valid/exact_match",
    "sft": "valid/exact_match",
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "q"
        assert launch.main(["train", *START, *SHORT, f"--workdir={run}"]) == 0
        for method in tune.SIZES:
            workdir = Path(folder) / method
            flags = [f"--config=tune:{method}", f"--workdir={workdir}", *SHORT]
            if method in {**tune.TUNED, **rl.METHODS}:
                flags += [f"--config.tune.start={run}"]
            else:
                flags += [
                    f"--config.tune.objective=distill(teacher='{run}')",
                    f"--config.data.tokenizer=run(path='{run}')",
                ]
            if method == "ppo":
                flags += ["--config.tune.reward=kind"]
            assert launch.main(["train", *flags]) == 0, method
            final = read_summary(workdir)["final"]
            assert SHOWN[method] in final, (method, sorted(final))
            print(f"{method}: {SHOWN[method]} = {final[SHOWN[method]]:.4f}")


if __name__ == "__main__":
    main()
