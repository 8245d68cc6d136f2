"""Speculative decoding: tokens are proposed cheaply, and the model reads several of them at once and keeps what it would
have written itself (Leviathan et al. 2023; Chen et al. 2023).

``proposals`` says what a proposal is, ``lookup`` and ``draft`` make some, ``acceptance`` is the rule, ``passes`` are the
compiled programs, ``method`` is what a ``Decoder`` is given.
"""
