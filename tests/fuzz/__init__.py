"""Random commands and files, drawn from seeds, through the real entry point: whatever the input, no bug, no traceback, no
hang, and nothing half-written that looks whole. ``python -m tests.fuzz --help`` runs any number of them."""
