"""``python -m gpt_jax VERB …``."""

import sys

from gpt_jax.main import command_line

command_line(sys.argv[1:], "python -m gpt_jax")
