"""Tasks of EleutherAI's lm-evaluation-harness, run on a model in this process: ``evaluate`` is the way in."""
