"""A laboratory for GPT-style language models in JAX and Flax.

Rooms, from the top: ``train`` and ``sample`` use ``mesh``, ``data`` and ``model``; those use ``config``, ``registry`` and
``errors``. Imports point down that list and never up.

Letters that end the names of arrays (and spell their einsums):

    B batch · T time (query positions) · S source time (keys, cache slots) · D model width · N heads · K kv heads
    G query heads per kv head · H head dimension · F mlp width · V vocabulary · L layers
"""
