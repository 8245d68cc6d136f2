"""The one command: ``python launch.py VERB …``. Verbs parse their flags and call one function each."""

import sys
from collections.abc import Callable
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from gpt_jax import backend
from gpt_jax.errors import DONE, INTERNAL, Failure, UserError, did_you_mean

USAGE = """usage: python launch.py VERB [flags]

  train   --config=configs/quickstart.py --workdir=runs/q     train, or resume what the workdir holds
  eval    --workdir=runs/q [--step=N]                         loss, perplexity and bits per byte of a checkpoint
  sample  --workdir=runs/q --prompt="def "                    continue a text (--prompt_ids, --prompts=FILE.jsonl)
  plan    --config=configs/gpt2.py:124m [--devices=8]         parameters, FLOPs and memory, without training
  plan    --config=configs/gpt2.py:124m --diagram=text        what a layer is made of (--diagram=FILE.svg)
  import  --from=DIRECTORY --workdir=runs/x                   make a run of a Hugging Face model
  export  --workdir=runs/x --to=DIRECTORY [--step=N]          make a Hugging Face model of a run
  sweep   --config=experiments/x.py --workdir=sweeps/x        train every arm with every seed, and compare them
  report  --workdir=sweeps/x                                  the sweep as a page, tables and pictures
  interpret  --workdir=runs/q [--text="def "]                 heads, layers and spectra of a checkpoint, as pictures
  fit     --runs=FILE.csv [--law=chinchilla] [--out=DIR]      a scaling law of columns params,tokens,loss[,flops]

Every knob of configs/base.py can be set: --config.optim.lr=1e-3. With sample: --sample.temperature=0.8.
`python launch.py VERB --help` lists a verb's flags; --debug shows tracebacks.
"""


def train(argv: list[str]) -> None:
    flag = _flags()
    config_flags.DEFINE_config_file("config", flag_values=flag, sys_argv=["launch.py", *argv])
    flags.DEFINE_string("workdir", None, "directory of the run, made if need be", flag_values=flag)
    _parse(flag, argv, required=("config", "workdir"))
    from gpt_jax.config import Config
    from gpt_jax.train import loop

    loop.train(Config.from_dict(flag.config), flag.workdir)


def evaluate(argv: list[str]) -> None:
    flag = _flags()
    flags.DEFINE_integer("step", None, "checkpoint; the newest if not given", flag_values=flag)
    _parse(flag, argv, required=("workdir",), config_of_run=True)
    from gpt_jax.config import Config
    from gpt_jax.train import report

    report.evaluate_run(Config.from_dict(flag.config), flag.workdir, flag.step)


def sample(argv: list[str]) -> None:
    flag = _flags()
    flags.DEFINE_integer("step", None, "checkpoint; the newest if not given", flag_values=flag)
    flags.DEFINE_string("prompt", None, "text to continue", flag_values=flag)
    flags.DEFINE_string("prompt_ids", None, 'token ids to continue, as "5 17 3"', flag_values=flag)
    flags.DEFINE_string("prompts", None, 'file of lines {"prompt": …} or {"ids": …}', flag_values=flag)
    flags.DEFINE_enum("output", "text", ["text", "ids", "jsonl"], "how to print", flag_values=flag)
    _parse(flag, argv, required=("workdir",), config_of_run=True, sections=("sample",))
    from gpt_jax.config import Config
    from gpt_jax.train import report

    config = Config.from_dict({**flag.config, "sample": flag.sample})
    prompts = {name: flag[name].value for name in ("prompt", "prompt_ids", "prompts")}
    report.sample_run(config, flag.workdir, flag.step, prompts, flag.output)


def plan(argv: list[str]) -> None:
    flag = _flags()
    config_flags.DEFINE_config_file("config", flag_values=flag, sys_argv=["launch.py", *argv])
    flags.DEFINE_integer("devices", None, "pretend so many devices; those at hand if not given", flag_values=flag)
    flags.DEFINE_string("chip", "", "chip to hold the memory against, such as h100", flag_values=flag)
    drawing = "draw the model instead, with shapes on the arrows: text, or the name of an .svg file to make"
    flags.DEFINE_string("diagram", "", drawing, flag_values=flag)
    _parse(flag, argv, required=("config",))
    from gpt_jax.config import Config

    if flag.diagram:
        from gpt_jax.mesh.diagram.show import show

        show(Config.from_dict(flag.config), config_flags.get_config_filename(flag["config"]), flag.diagram)
        return
    from gpt_jax.train import report

    report.print_plan(Config.from_dict(flag.config), flag.devices, flag.chip)


def import_model(argv: list[str]) -> None:
    from configs import base

    flag = _flags()
    flags.DEFINE_string("from", None, "directory with config.json and safetensors", flag_values=flag)
    flags.DEFINE_string("workdir", None, "directory of the run to be made", flag_values=flag)
    others = base.get_config()
    for name in ("data", "optim", "train", "sample"):
        config_flags.DEFINE_config_dict(name, others[name], flag_values=flag, sys_argv=["launch.py", *argv])
    _parse(flag, argv, required=("from", "workdir"))
    from gpt_jax.interop import importing

    config = importing.import_directory(Path(flag["from"].value), Path(flag.workdir), others.to_dict())
    print(f"{flag.workdir} holds a model of {config.model.layers} layers as step 0")


def export_model(argv: list[str]) -> None:
    flag = _flags()
    flags.DEFINE_string("to", None, "directory to be made", flag_values=flag)
    flags.DEFINE_integer("step", None, "checkpoint; the newest if not given", flag_values=flag)
    flags.DEFINE_string("family", "", "model_type; the first that can express the model if not given", flag_values=flag)
    flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16", "float16"], "of the tensors", flag_values=flag)
    flags.DEFINE_float("shard_gb", 5.0, "size of a file, at most, in 10^9 bytes", flag_values=flag)
    _parse(flag, argv, required=("workdir", "to"), config_of_run=True)
    from gpt_jax.config import Config
    from gpt_jax.interop import exporting

    form = exporting.Form(flag.family, flag.dtype, int(flag.shard_gb * 1e9))
    step = exporting.export_run(Config.from_dict(flag.config), Path(flag.workdir), Path(flag.to), flag.step, form)
    print(f"{flag.to} holds the model of step {step}")


def sweep(argv: list[str]) -> None:
    import dataclasses

    from gpt_jax.study import sweep as sweeps

    paths = [word.partition("=")[2] for word in argv if word.lstrip("-").startswith("config=")]
    if not paths:
        raise UserError("--config is missing", where="command line", allowed="--config=experiments/NAME.py")
    made = sweeps.load(Path(paths[-1]))
    rest = [word for word in argv if not word.lstrip("-").startswith("config=")]
    flag = _flags()
    config_flags.DEFINE_config_dict("config", made.base, flag_values=flag, sys_argv=["launch.py", *rest])
    flags.DEFINE_string("workdir", None, "directory of the sweep, made if need be", flag_values=flag)
    flags.DEFINE_enum("backend", "local", ["local", "slurm"], "where runs are trained", flag_values=flag)
    flags.DEFINE_string("slurm", "", 'options for sbatch, as "--partition=gpu --gres=gpu:1"', flag_values=flag)
    flags.DEFINE_integer("jobs", 0, "runs at once; 0 = one a GPU, or one a core", lower_bound=0, flag_values=flag)
    alike = "runs alike but for seeds and scalars trained at once as one program; 0 = what is fastest on a GPU, else 1"
    flags.DEFINE_integer("together", 0, alike, lower_bound=0, flag_values=flag)
    flags.DEFINE_bool("retry", False, "try failed runs again", flag_values=flag)
    _parse(flag, rest, required=("workdir",))
    from gpt_jax.study import conduct

    made = dataclasses.replace(made, base=flag.config)
    place = conduct.Place(flag.jobs, flag.backend == "slurm", flag.slurm, flag.together)
    conduct.run(made, Path(paths[-1]), Path(flag.workdir), place, flag.retry)


def report_sweep(argv: list[str]) -> None:
    flag = _flags()
    flags.DEFINE_string("workdir", None, "directory of the sweep", flag_values=flag)
    _parse(flag, argv, required=("workdir",))
    from gpt_jax.study.report import page

    print(page.report(Path(flag.workdir)))


def fit(argv: list[str]) -> None:
    flag = _flags()
    flags.DEFINE_string("runs", None, "CSV with the columns params,tokens,loss[,flops][,name]", flag_values=flag)
    flags.DEFINE_string("law", "chinchilla", "a file of gpt_jax/study/law", flag_values=flag)
    flags.DEFINE_string(
        "out", "", "directory for fit.json and fit.png; none are written if not given", flag_values=flag
    )
    flags.DEFINE_integer("seed", 0, "of starts and bootstrap samples", flag_values=flag)
    flags.DEFINE_integer("resamples", 1000, "bootstrap samples", lower_bound=2, flag_values=flag)
    _parse(flag, argv, required=("runs",))
    from gpt_jax.study import scaling

    scaling.fit_file(Path(flag.runs), flag.law, flag.out, seed=flag.seed, resamples=flag.resamples)


def interpret(argv: list[str]) -> None:
    flag = _flags()
    flags.DEFINE_integer("step", None, "checkpoint; the newest if not given", flag_values=flag)
    flags.DEFINE_string("text", "", "what to picture; the first validation window if not given", flag_values=flag)
    _parse(flag, argv, required=("workdir",), config_of_run=True)
    from gpt_jax.config import Config
    from gpt_jax.interpret import inside

    print(inside.interpret_run(Config.from_dict(flag.config), flag.workdir, flag.step, flag.text))


VERBS: dict[str, Callable[[list[str]], None]] = {
    "train": train,
    "eval": evaluate,
    "sample": sample,
    "plan": plan,
    "import": import_model,
    "export": export_model,
    "sweep": sweep,
    "report": report_sweep,
    "fit": fit,
    "interpret": interpret,
}


def _flags() -> flags.FlagValues:
    flag = flags.FlagValues()
    flags.DEFINE_bool("debug", False, "show tracebacks", flag_values=flag)
    flags.DEFINE_bool("help", False, "show this help", flag_values=flag)
    return flag


def _parse(
    flag: flags.FlagValues,
    argv: list[str],
    required: tuple[str, ...],
    config_of_run: bool = False,
    sections: tuple[str, ...] = (),
) -> None:
    """Reads flags into ``flag``. With ``config_of_run``, --config is the configuration of the run in --workdir, and each
    of ``sections`` is a flag of its own, so that --sample.top_k says the same as --config.sample.top_k."""
    try:
        if config_of_run:
            flags.DEFINE_string("workdir", None, "directory of the run", flag_values=flag)
            stored = _stored_config(argv)
            tables = {"config": stored, **{section: stored[section] for section in sections}}
            for name, table in tables.items():
                config_flags.DEFINE_config_dict(name, table, flag_values=flag, sys_argv=["launch.py", *argv])
        rest = flag(["launch.py", *argv])[1:]
        if flag.help:
            print(USAGE + "\n" + flag.get_help())
            raise SystemExit(DONE)
        missing = [name for name in required if flag[name].value is None]
        if "config" in required and not missing:
            flag.config.items()  # a file that could not be read says so when it is used
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError, SyntaxError) as error:
        if "--debug" in argv:
            raise
        said = str(error.args[0] if error.args else error).strip()
        lines = said.splitlines()
        said = lines[-1].strip() if "Traceback" in said or isinstance(error, OSError) else " ".join(lines)
        said = said.replace("\\n", " ").replace("\\'", "'").strip("\"'")
        raise UserError(said, where="command line", fix="see configs/base.py for every knob") from None
    if missing or rest:
        what = f"--{missing[0]} is missing" if missing else f"{rest[0]!r} is no flag"
        raise UserError(what, where="command line", fix="python launch.py --help")


def _stored_config(argv: list[str]) -> ConfigDict:
    """The configuration of the run that --workdir names, over the defaults of today's knobs."""
    from configs import base
    from gpt_jax.train.workdir import read_config

    finder = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "", flag_values=finder)
    finder(["launch.py", *[a for a in argv if a.startswith(("--workdir", "-workdir"))]])
    config = base.get_config()
    if finder.workdir:
        for section, knobs in read_config(finder.workdir).items():
            for key, value in knobs.items():
                field = config[section].get_ref(key)
                field.set(tuple(value) if isinstance(value, list) else value)
    return config


def main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return DONE
    verb, rest = argv[0], argv[1:]
    backend.tune()
    try:
        if verb not in VERBS:
            raise UserError(f"there is no verb {verb!r}", allowed=", ".join(VERBS), fix=did_you_mean(verb, VERBS))
        VERBS[verb](rest)
        return DONE
    except Failure as failure:
        if "--debug" in rest:
            raise
        print(f"error: {failure}" if failure.exit_code != 75 else str(failure), file=sys.stderr)
        return failure.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception:
        import traceback

        traceback.print_exc()
        print("error: this is a bug in gpt_jax; please report the lines above", file=sys.stderr)
        return INTERNAL


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    sys.exit(main(sys.argv[1:]))
