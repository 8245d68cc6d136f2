"""Beginning at another model's parameters: where it is, which knobs are as in it, how its parameters become the run's."""
