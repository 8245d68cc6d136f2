"""What processors that constrain words have in common: words as token ids (``words``), automata (``automata``)."""
