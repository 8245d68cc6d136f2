"""The one command: ``python launch.py VERB …``. A verb is a file of gpt_jax/commands/."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from gpt_jax.main import command_line
from gpt_jax.main import main as main

if __name__ == "__main__":
    command_line(sys.argv[1:])
