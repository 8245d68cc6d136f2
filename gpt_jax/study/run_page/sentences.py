"""What was trained and what it reached, in sentences made of a run's own numbers."""

import inspect
import shlex
from collections.abc import Iterator
from typing import Any

from gpt_jax import registry
from gpt_jax.model import flops
from gpt_jax.run_directory import TOKENIZER
from gpt_jax.study.compare.verdicts import MISSING, Rows
from gpt_jax.study.run_page.run_files import RunFiles
from gpt_jax.train.objectives.policy import Policy
from gpt_jax.train.record import goodput
from gpt_jax.train.record.progress import duration, quantity
from gpt_jax.train.starting import policies

DIGEST = 12  # characters of a digest that are shown
STATES = {
    "running": "It is still running: {steps} are recorded (process {pid} on {host}).",
    "done": "It is finished: {steps}.",
    "stopped": "It was stopped after {steps}; the command that trained it resumes it.",
    "killed": "It ended without a summary after {steps}: it failed or was killed. The command that trained it resumes it.",
}


def state(run: RunFiles) -> str:
    """Whether it is done, was stopped or killed, or goes on."""
    steps = f"{run.step:,} of {run.config.train.steps:,} steps"
    if not run.records and not run.owner:
        return "No metrics are recorded: nothing has been trained in this directory."
    return STATES[run.status].format(steps=steps, pid=run.owner.get("pid"), host=run.owner.get("host"))


def result(run: RunFiles) -> str:
    """What validation says by the metric of the best checkpoint."""
    best = run.objective.best
    metric, points = best.metric.replace("_", " "), run.points(f"valid/{best.metric}")
    if not points:
        return f"There is no evaluation with a finite valid/{best.metric}."
    (begin, first), (end, last) = points[0], points[-1]
    if len(points) == 1:
        return f"There is one evaluation: validation {metric} was {first:.4g} at step {begin:,}."
    moved = f"went from {first:.4g} at step {begin:,} to {last:.4g} at step {end:,}"
    top = f"the {'highest' if best.highest else 'lowest'} was {run.best[f'valid/{best.metric}']:.4g}"
    return f"Validation {metric} {moved}; {top}, at step {run.best['step']:,}."


def shown(run: RunFiles) -> Rows:
    """What the objective shows of evaluations, and the figures of tasks: first, at the best step, and last, where they have
    finite values."""
    units = run.objective.shown
    rows = [["validation", "unit", "first", "at the best step", "last", "change"]]
    asked = (name.removeprefix("valid/") for names in run.of_tasks().values() for name in names)
    for name in dict.fromkeys((run.objective.best.metric, *units, *asked)):
        if values := run.values(f"valid/{name}"):
            best = run.best.get(f"valid/{name}")
            middle = MISSING if best is None else f"{best:.4g}"
            numbers = [f"{values[0]:.4g}", middle, f"{values[-1]:.4g}", f"{values[-1] - values[0]:+.4g}"]
            rows.append([name, units.get(name, ""), *numbers])
    return rows


def trained(run: RunFiles) -> Iterator[tuple[str, str]]:
    """What was trained, on what, and how: a label and a sentence each."""
    model, data, tune, optim, train = (
        getattr(run.config, part) for part in ("model", "data", "tune", "optim", "train")
    )
    shape = f"{model.layers} layers, width {model.width}, {model.heads} heads, a context of {model.context} tokens"
    adapter = "" if tune.adapter == "none" else f" Only its adapter is trained: {tune.adapter}."
    yield "Model", f"{flops.parameters(model).total:,} parameters: {shape}, computed in {model.dtype}.{adapter}"
    yield "Start", _parent(run) if tune.start else "From scratch, with random parameters."
    yield "Data", f"{_sum(data.source)}, tokenizer {data.tokenizer}, template {data.template}."
    yield "Objective", f"{tune.objective}. {objective(tune.objective)}"
    if tune.rewards:
        yield "Reward", _sum(tune.reward)
    if isinstance(run.objective, Policy):
        sample, rows = run.config.sample, policies.rows(run.config)
        drawn = f"up to {sample.max_new_tokens} tokens at temperature {sample.temperature:g}"
        yield "Rollouts", f"{rows} answers, {tune.samples} to a prompt, {drawn}, for {tune.updates} updates each."
    rate = f"learning rate {optim.lr:g}, {optim.schedule} after {optim.warmup} steps of warmup"
    yield "Optimizer", f"{optim.optimizer}, {rate}, {train.batch} sequences a step."
    yield "Length", _length(run)
    if run.goodput:
        yield "Goodput", goodput.words(run.goodput) + "."
    if run.starts:
        yield "Machine", _machine(run)


def objective(call: str) -> str:
    """The formula's name, as the first line of its module has it."""
    module = inspect.getmodule(registry.lookup("train.objectives", registry.parse(call)[0]))
    return " ".join((module.__doc__ or "").split("\n\n")[0].split()) if module else ""


def commands(run: RunFiles, prompts: tuple[str, ...]) -> list[tuple[str, str]]:
    """What to type to go on: a purpose and a command each.

    Args:
      prompts: that the run may continue.
    """
    typed = [start["argv"][1:] for start in run.starts if start.get("argv", [])[1:2] == ["train"]]
    found = [("resume", typed[-1])] if typed and run.status != "done" else []
    here = f"--workdir={run.workdir}"
    if run.objective.writes:
        text = f"--prompt={next(filter(str.strip, prompts), '…')}"
        found.append(("sample", ["sample", here, text if (run.workdir / TOKENIZER).exists() else "--prompt_ids=0"]))
    found += [("evaluate", ["eval", here]), ("write this page again", ["report", here])]
    return [(purpose, shlex.join(["python", "launch.py", *words])) for purpose, words in found]


def _sum(named: Any) -> str:
    """A call, or pairs of weights and calls."""
    return named if isinstance(named, str) else " + ".join(" × ".join(map(str, pair)) for pair in named)


def _parent(run: RunFiles) -> str:
    parent: dict = next((start["parent"] for start in run.starts if "parent" in start), {})
    digest = str(parent.get("digest", MISSING))[:DIGEST]
    return f"{parent.get('start', run.config.tune.start)}, step {parent.get('step', MISSING)}, digest {digest}."


def _length(run: RunFiles) -> str:
    parts = [f"{run.step:,} of {run.config.train.steps:,} steps"]
    if run.records:
        parts.append(f"{quantity(run.records[-1]['tokens'])} tokens")
    if run.status in ("done", "stopped"):
        spent, steps = (run.summary.get(name) for name in ("seconds", "training_seconds"))
        parts += [f"{duration(spent)} in all"] if spent else []
        parts += [f"{duration(steps)} of it on steps"] if steps else []
    elif times := run.values("time"):
        parts.append(f"{duration(max(0, times[-1] - times[0]))} between its first and its last record")
    if speed := run.at_end("speed/tokens_per_second"):
        parts.append(f"{quantity(speed)} tokens/s at the end")
    return ", ".join(parts) + "."


def _machine(run: RunFiles) -> str:
    last, count = run.starts[-1], len(run.starts)
    devices = " + ".join(f"{many} × {kind}" for kind, many in last.get("devices", {}).items()) or MISSING
    times = f"Started {run.starts[0].get('time', MISSING)}" + (f", and {count - 1} times again." if count > 1 else ".")
    jax = last.get("packages", {}).get("jax", MISSING)
    return f"{devices}, {last.get('cpus')} CPU cores, host {last.get('host', MISSING)}, JAX {jax}. {times}"
