"""What is trained instead of the parameters of the model that training starts from (Hu et al. 2021): one file per adapter.

An adapter works on parameters, before they become a model, so that every variant, mesh, scan and the decoder are the same
with it and without: ``params = adapter.apply(base, trained)``. What it trains has the paths of the parameters that it is
about, with names of its own below, so that layers are stacked and sharded as theirs are.
"""

from typing import Any, Protocol

import jax

from gpt_jax.config import ModelConfig

Tree = dict[str, Any]


class Adapter(Protocol):
    """See the module. ``base`` and what is trained are in the same layout, stacked or unrolled.

    Attributes:
      alone: whether nothing is adapted: the model's own parameters are trained, and there is no base.
    """

    alone: bool

    def init(self, base: Tree, model: ModelConfig, key: jax.Array) -> Tree:
        """What is trained, before the first update: applied, it gives ``base`` to the bit.

        Args:
          base: parameters of ``model``, in the layout that its ``scan`` says.

        Raises:
          UserError: the model has nothing that the adapter is about.
        """
        ...

    def apply(self, base: Tree, trained: Tree) -> Tree:
        """The model's parameters, differentiable in what is trained, float32."""
        ...
