"""The command that runs nanoGPT: which seed it trains with, and that it evaluates the whole text."""

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

# What the command needs of a clone: the same files, whose model knows the frequencies of letters alone.
MODEL = """
import torch
from dataclasses import dataclass

@dataclass
class GPTConfig:
    block_size: int

class GPT(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.scores = torch.nn.Parameter(torch.zeros(3))
        print("number of parameters: 3")

    def forward(self, x, y):
        return None, torch.nn.functional.cross_entropy(self.scores.expand(y.numel(), 3), y.view(-1))
"""
TRAIN = """
import sys, torch
from model import GPT, GPTConfig
torch.manual_seed(1337)
model = GPT(GPTConfig(4))
model.scores.data = torch.randn(3)
out = next(word for word in sys.argv if word.startswith("--out_dir=")).partition("=")[2]
torch.save({"model_args": {"block_size": 4}, "model": model.state_dict()}, out + "/ckpt.pt")
"""
PREPARE = """
from pathlib import Path
import numpy
here = Path(__file__).parent
letters = [" ab".index(letter) for letter in (here / "input.txt").read_text()]
numpy.array(letters, numpy.uint16).tofile(here / "val.bin")
"""


def test_each_seed_is_evaluated_on_the_whole_text(tmp_path):
    folder = tmp_path / "nanoGPT" / "data" / "shakespeare_char"
    folder.mkdir(parents=True)
    for path, text in {"model.py": MODEL, "train.py": TRAIN}.items():
        (tmp_path / "nanoGPT" / path).write_text(text)
    (folder / "prepare.py").write_text(PREPARE)
    letters = np.random.default_rng(0).integers(0, 3, 4 * 100 + 3)
    (tmp_path / "text.txt").write_text("".join(" ab"[i] for i in letters))

    command = [
        sys.executable,
        "-m",
        "benchmarks.published.nanogpt",
        str(tmp_path / "nanoGPT"),
        str(tmp_path / "text.txt"),
    ]
    done = subprocess.run([*command, "--seeds", "7"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    torch.manual_seed(7)
    logs = torch.log_softmax(torch.randn(3), 0)
    assert done.stdout.splitlines()[1:] == [f"7: {-logs[letters[1:401]].mean():.4f}"]


def test_what_is_no_clone_is_named(tmp_path):
    command = [sys.executable, "-m", "benchmarks.published.nanogpt", str(tmp_path), __file__]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "no train.py" in done.stderr
