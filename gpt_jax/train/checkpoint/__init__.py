"""Where states are written and what makes them whole: checkpoints, manifest, retention, lock, rules of resuming."""
