"""Text or tokens in, batches out: ``open.py`` makes of a config a ``Data`` whose batches are functions of (seed, step).

``sources/`` says where text comes from, ``tokenizers/`` how it becomes ids, ``corpus.py`` keeps the ids, ``windows.py``
cuts them into sequences and ``batches.py`` orders those.
"""
