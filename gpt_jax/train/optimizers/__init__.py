"""Optimizers, one file each.

An optimizer gives the *direction* of an update; the learning rate and decoupled weight decay are applied by ``optim``
alike for all. So it is a function of its own constants that returns an ``optax.GradientTransformation``, registered
under "train.optimizers". It is built with ``scanned``: whether leaves below "blocks" carry a leading layer axis.
"""
