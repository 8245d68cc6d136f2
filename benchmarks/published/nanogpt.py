"""The losses of nanoGPT's own code with the settings that its README gives for CPUs, one a seed.

    python -m benchmarks.published.nanogpt CLONE data/tinyshakespeare.txt --seeds 1 2 3

CLONE is a clone of https://github.com/karpathy/nanoGPT. Its train.py runs as it is, but for the seed, which it has no
option for; its README's 1.88 is an estimate from 20 random batches, and here the last checkpoint is evaluated on the whole
validation text. Two minutes a seed. What it prints is the reference of ``experiments/nanogpt_cpu.py``.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DATA = Path("data") / "shakespeare_char"
SETTINGS = (
    *("config/train_shakespeare_char.py", "--device=cpu", "--compile=False", "--eval_iters=20", "--log_interval=100"),
    *("--block_size=64", "--batch_size=12", "--n_layer=4", "--n_head=4", "--n_embd=128", "--dropout=0.0"),
    *("--max_iters=2000", "--lr_decay_iters=2000", "--always_save_checkpoint=True"),
)
TRAIN = """
import runpy, sys, torch
given = torch.manual_seed
seed = int(sys.argv[1])
torch.manual_seed = lambda _: given(seed)
sys.argv = ["train.py", *sys.argv[2:]]
sys.path.insert(0, ".")
runpy.run_path("train.py", run_name="__main__")
"""
EVALUATE = """
import sys, numpy, torch
sys.path.insert(0, ".")
from model import GPT, GPTConfig
saved = torch.load(sys.argv[1] + "/ckpt.pt")
model = GPT(GPTConfig(**saved["model_args"])).eval()
model.load_state_dict(saved["model"])
tokens = torch.from_numpy(numpy.fromfile("data/shakespeare_char/val.bin", dtype=numpy.uint16).astype(numpy.int64))
t = model.config.block_size
n = (len(tokens) - 1) // t
inputs, targets = tokens[: n * t].view(n, t), tokens[1 : n * t + 1].view(n, t)
with torch.no_grad():
    sums = [model(x, y)[1].item() * len(x) for x, y in zip(inputs.split(64), targets.split(64))]
print(sum(sums) / n)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    args = parser.parse_args()
    if not (args.clone / "train.py").is_file():
        parser.error(f"{args.clone} is no clone of nanoGPT: it has no train.py")
    if not args.text.is_file():
        parser.error(f"there is no text {args.text}")
    shutil.copyfile(args.text, args.clone / DATA / "input.txt")
    run(args.clone, str(DATA / "prepare.py"))
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=args.clone, capture_output=True, text=True).stdout.strip()
    print(f"nanoGPT {commit or 'of an unknown commit'}; validation loss of each seed, whole text:", flush=True)
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as out:
            run(args.clone, "-c", TRAIN, str(seed), *SETTINGS, f"--out_dir={out}")
            loss = float(run(args.clone, "-c", EVALUATE, out).splitlines()[-1])  # after what nanoGPT prints itself
            print(f"{seed}: {loss:.4f}", flush=True)


def run(clone: Path, *words: str) -> str:
    """What Python prints in the clone; ends the program with its last words where it fails."""
    done = subprocess.run([sys.executable, *words], cwd=clone, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"nanoGPT failed:\n{done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
