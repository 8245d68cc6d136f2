"""``python -m gpt_jax VERB …``."""

import sys

from gpt_jax.main import main

sys.exit(main(sys.argv[1:], "python -m gpt_jax"))
