"""A case of each verb: its command line and files, mostly right, with something wrong."""

import random
from pathlib import Path

from gpt_jax.sample.outputs.requests import OF_A_LINE
from tests.fuzz import kit, values, worker
from tests.fuzz.cases import Case, Draw, call, changes, damaged_copy, data_file, files, odd_words, own_flags

TASK = """task: mine
dataset_path: json
dataset_kwargs: {{data_files: {rows}}}
test_split: train
output_type: multiple_choice
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: options
doc_to_target: 0
"""
# Lines of a chat that are commands, or look like some.
TYPED = (
    *("/help", "/history", "/undo", "/reset", "/regenerate", "/save talk.json", "/save .", "/load talk.json", "/load"),
    *("/quit", "//to be", "/", "/max_new_tokens 3", "/system be brief", "/system", "/seed -1", "/temperature 0"),
)
# Files of settings that are none, or that do what such files should not.
SETTINGS = (
    "from gpt_jax.configs import base\n\ndef get_config():\n  c = base.get_config()\n  c.train.steps = 10**30\n  return c",
    "def get_config(): return {}",
    "def get_config(x): return x",
    "raise SystemExit(3)",
    "import os\n1/0",
    "def get_config():\n    return get_config()",
    "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict({'model': 3})",
    "get_config = 3",
    "def get_config(:",
    "# -*- coding: nonsense -*-\n",
    "x = '\udcff'",
    "\0",
)


def train(draw: Draw, folder: Path, shared: Path, case: Case) -> None:
    knobs = kit.small(shared / kit.TEXT)
    if draw.random() < 0.35:
        knobs["data.source"], knobs["data.tokenizer"] = data_file(draw, folder, shared)
    else:
        knobs |= changes(draw, shared, draw.randint(1, 3))
    case.made = folder / "made"
    if draw.random() < 0.15:
        damaged_copy(draw, shared / kit.RUN, case.made)
        knobs |= {"train.steps": "3"}
    case.argv = ["train", f"--config={_settings(draw, folder)}", f"--workdir={case.made}", *kit.flags(knobs)]


def plan(draw: Draw, folder: Path, shared: Path, case: Case) -> None:
    knobs = kit.small(shared / kit.TEXT) | {"model.vocab": "64"} | changes(draw, shared, draw.randint(1, 3))
    drawn = [] if draw.random() < 0.8 else [f"--diagram={draw.choice(['text', 'm.svg', 'm.png', '', '/dev/full'])}"]
    case.argv = ["plan", "--config=base", *kit.flags(knobs), *own_flags(draw, "plan", ("config",)), *drawn]


def sample(draw: Draw, folder: Path, shared: Path, case: Case) -> None:
    run = damaged_copy(draw, shared / kit.RUN, folder / "run", 0.3)
    knobs = changes(draw, shared, draw.choice([0, 1, 1, 2, 3, 5]), "sample")
    match draw.randrange(4):
        case 0:
            (folder / "p.jsonl").write_bytes(_prompts(draw))
            prompt = [f"--prompts={folder / 'p.jsonl'}"]
        case 1:
            prompt = [f"--prompt_ids={' '.join(values.whole(draw) for _ in range(draw.randint(0, 4)))}"]
        case 2:
            prompt = [f"--prompt={values.text(draw)}"]
        case _:
            prompt = ["--prompt=to be"]
    own = own_flags(draw, "sample", ("prompt", "prompt_ids")) if draw.random() < 0.3 else []
    case.argv = ["sample", f"--workdir={run}", *prompt, *kit.flags(knobs, ""), *own]


def _prompts(draw: Draw) -> bytes:
    match draw.randrange(4):
        case 0:
            return kit.prompts(draw.randint(1, 4))
        case 1:
            return values.damage(draw, kit.prompts())
    return b"\n".join(values.json_text(draw, {"prompt": "to be", "ids": [1, 2]}) for _ in range(2))


def evaluate(draw: Draw, folder: Path, shared: Path, case: Case) -> None:
    run = damaged_copy(draw, shared / draw.choice([kit.RUN, kit.CHAT]), folder / "run")
    knobs = changes(draw, shared, draw.randint(0, 1))
    asked = [] if draw.random() < 0.5 else draw.choice([_tasks, _long_text])(draw, folder, shared)
    given = own_flags(draw, "eval", ("tasks",) if asked else ())
    case.argv = ["eval", f"--workdir={run}", *kit.flags(knobs), *asked, *given]


def _tasks(draw: Draw, folder: Path, shared: Path) -> list[str]:
    (folder / "rows.jsonl").write_bytes(
        values.json_text(draw, {"prompt": "to", "answer": "be", "options": ["be", "or"]})
    )
    asked = [call(draw, "judge.tasks", files(folder)) for _ in range(draw.randint(1, 2))]
    if draw.random() < 0.3:
        (folder / "task.yaml").write_bytes(values.damage(draw, TASK.format(rows=folder / "rows.jsonl").encode()))
        asked.append(f"lm_eval:{draw.choice([folder, folder / 'task.yaml', 'none', ''])}:limit=2")
    return [f"--tasks={','.join(asked)}"]


def _long_text(draw: Draw, folder: Path, shared: Path) -> list[str]:
    (folder / "book.txt").write_bytes(values.damage(draw, (shared / kit.TEXT).read_bytes()))
    losses = [f"--losses={draw.choice([folder / 'losses.jsonl', folder, '/dev/full'])}"] if draw.random() < 0.5 else []
    return [f"--text={draw.choice([folder / 'book.txt', folder, folder / 'none'])}", *losses]


def haystack(draw: Draw, folder: Path, shared: Path, case: Case) -> None:
    run = damaged_copy(draw, shared / draw.choice([kit.RUN, kit.CHAT]), folder / "run", 0.3)
    source = call(draw, "data.sources", files(shared)) if draw.random() < 0.3 else draw.choice(["needle", "variables"])
    lengths = draw.choice(["60", "60,90", "1000", "0", values.text(draw)])
    given = own_flags(draw, "haystack", ("source", "lengths", "count", "depths"))
    few = [f"--count={draw.choice(['1', '2', '0'])}", f"--depths={draw.choice(['1', '2', '-1'])}"]
    case.argv = ["haystack", f"--workdir={run}", f"--source={source}", f"--lengths={lengths}", *few, *given]


def chat(draw: Draw, folder: Path, shared: Path, case: Case) -> None:
    run = damaged_copy(draw, shared / draw.choice([kit.CHAT, kit.CHAT, kit.RUN]), folder / "run", 0.3)
    (folder / "talk.json").write_bytes(values.json_text(draw, {"messages": [{"role": "user", "content": "to be"}]}))
    lines = [draw.choice([values.text(draw), "to be", *TYPED]) for _ in range(draw.randint(0, 5))]
    knob = f"/{draw.choice(sorted(OF_A_LINE))} {values.real(draw)}"
    (folder / worker.STDIN).write_bytes("\n".join([*lines, knob]).encode("utf-8", "surrogateescape"))
    knobs = changes(draw, shared, draw.choice([0, 1, 2]), "sample")
    case.argv = ["chat", f"--workdir={run}", *kit.flags(knobs, ""), *own_flags(draw, "chat", ())]


def interpret(draw: Draw, folder: Path, shared: Path, case: Case) -> None:
    run = damaged_copy(draw, shared / kit.RUN, folder / "run")
    case.argv = ["interpret", f"--workdir={run}", *own_flags(draw, "interpret", ())]


def decoding(draw: Draw, folder: Path, shared: Path, case: Case) -> None:
    run = damaged_copy(draw, shared / kit.RUN, folder / "run")
    (folder / "grid.json").write_bytes(values.json_text(draw, {"warm": {"temperature": 0.8}, "few": {"top_k": 5}}))
    given = own_flags(draw, "decoding", ("prompts", "seeds", "rows"))
    case.argv = ["decoding", f"--workdir={run}", f"--grid={folder / 'grid.json'}", "--prompts=2", *given]


def export(draw: Draw, folder: Path, shared: Path, case: Case) -> None:
    run = damaged_copy(draw, shared / kit.RUN, folder / "run", 0.5)
    case.made = folder / "made"
    knobs = changes(draw, shared, draw.randint(0, 1))
    given = own_flags(draw, "export", ())
    case.argv = ["export", f"--workdir={run}", f"--to={case.made}", *kit.flags(knobs), *given]


def import_(draw: Draw, folder: Path, shared: Path, case: Case) -> None:
    source = damaged_copy(draw, shared / kit.HF, folder / "hf", 0.9)
    case.made = folder / "made"
    knobs = changes(draw, shared, draw.randint(0, 3), "data", "optim", "train", "sample")
    given = kit.flags(knobs, "") if draw.random() < 0.3 else []
    case.argv = ["import", f"--from={source}", f"--workdir={case.made}", *given]


def fit(draw: Draw, folder: Path, shared: Path, case: Case) -> None:
    case.made = folder / "made"
    given = own_flags(draw, "fit", ())
    if not any(flag.startswith("--resamples") for flag in given):
        given.append("--resamples=20")
    if draw.random() < 0.15:
        source = f"--workdir={damaged_copy(draw, shared / kit.SWEEP, folder / 'sweep')}"
    else:
        (folder / "runs.csv").write_bytes(_table(draw))
        source = f"--runs={folder / 'runs.csv'}"
    case.argv = ["fit", source, *([f"--out={case.made}"] if draw.random() < 0.5 else []), *given]


def _table(draw: Draw) -> bytes:
    lines = kit.RUNS.splitlines()
    for _ in range(draw.randint(0, 4)):
        at = draw.randrange(len(lines))
        cells = lines[at].split(",")
        cells[draw.randrange(len(cells))] = draw.choice([values.real, values.whole, values.text])(draw)
        lines[at] = ",".join(cells)
    kept = [lines[0], *draw.sample(lines[1:], draw.choice([0, 1, 2, 5, 12]))]
    data = draw.choice(["\n", "\r\n"]).join(kept).encode("utf-8", "surrogatepass")
    return values.damage(draw, data) if draw.random() < 0.3 else data


def report(draw: Draw, folder: Path, shared: Path, case: Case) -> None:
    made = draw.choice((kit.SWEEP, kit.RUN))
    case.argv = ["report", f"--workdir={damaged_copy(draw, shared / made, folder / made)}"]


def sweep(draw: Draw, folder: Path, shared: Path, case: Case) -> None:
    study = kit.STUDY
    for old, new in (
        ("seeds=(0,)", f"seeds={values.like(draw, (1,))}"),
        ("1e-2", values.real(draw) or "1"),
        ("{}", "{'x': 1}"),
    ):
        study = study.replace(old, new) if draw.random() < 0.5 else study
    data = study.encode("utf-8", "surrogatepass")
    (folder / "study.py").write_bytes(values.damage(draw, data) if draw.random() < 0.5 else data)
    # Its workers are processes of their own, which import everything anew: what is right is refused by a wrong flag.
    wrong = draw.choice(
        ["--jobs=-1", f"--config.train.steps={draw.choice(['0', '-1', 'nan'])}", "--together=x", "--jobz=2"]
    )
    case.argv = ["sweep", f"--config={folder / 'study.py'}", f"--workdir={folder / 'made'}", wrong]


def nonsense(draw: Draw, folder: Path, shared: Path, case: Case) -> None:
    case.argv = [values.text(draw) for _ in range(draw.randint(0, 4))]


def _settings(draw: Draw, folder: Path) -> str:
    """A preset, or a file of settings that may be none."""
    if draw.random() < 0.9:
        return "base"
    body = draw.choice(SETTINGS)
    (folder / "settings.py").write_bytes(body.encode("utf-8", "surrogateescape"))
    return str(folder / "settings.py")


# How often each is drawn.
VERBS = {
    "train": (train, 30),
    "plan": (plan, 8),
    "sample": (sample, 16),
    "eval": (evaluate, 12),
    "haystack": (haystack, 4),
    "chat": (chat, 6),
    "interpret": (interpret, 4),
    "decoding": (decoding, 4),
    "export": (export, 5),
    "import": (import_, 9),
    "fit": (fit, 12),
    "report": (report, 4),
    "sweep": (sweep, 4),
    "other": (nonsense, 2),
}


def draw_case(seed: str, folder: Path, shared: Path) -> Case:
    """The case of a seed, its files in ``folder``; ``shared`` is what ``kit.make`` made."""
    draw = random.Random(seed)
    case = Case(seed)
    makers, weights = zip(*VERBS.values(), strict=True)
    make = draw.choices(makers, weights)[0]
    make(draw, folder, shared, case)
    case.argv += odd_words(draw)
    return case
