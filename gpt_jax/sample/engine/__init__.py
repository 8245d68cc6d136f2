"""What is compiled: prompts are read, tokens are written, rows that have ended are replaced (``turns`` is the story)."""
