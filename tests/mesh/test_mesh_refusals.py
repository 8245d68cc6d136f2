"""What a mesh cannot split is refused before anything is compiled, with what it can."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from gpt_jax.errors import UserError
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh.spread import check, split_of
from gpt_jax.model import gpt
from tests.mesh.sizes import mesh_config
from tests.model import variants
from tests.train import tiny


def refusal(mesh: dict, pack: str = "concat", **model) -> UserError | None:
    sizes = {"layers": 1, "width": 16, "heads": 4, "kv_heads": 2, "head_dim": 4, "mlp_width": 16, "context": 32}
    config = dataclasses.replace(
        tiny.config(data__pack=pack), model=variants.config(**(sizes | model)), mesh=mesh_config(**mesh)
    )
    try:
        check(meshes.make(config.mesh), config)
    except UserError as error:
        return error
    return None


RING, GATHER, ULYSSES = ({"data": 4, "context": 2, "context_strategy": name} for name in ("ring", "gather", "ulysses"))
CASES = {
    "a length that does not divide": ({"context": 8}, {"context": 24}, "16 equal parts", "mesh.context 6"),
    "recurrences": (GATHER, {"attention": "gated_delta"}, "gated_delta.*one after another", "softmax"),
    "one of two mechanisms": (RING, {"layers": 2, "attention": ("full", "retention")}, "retention", "mesh.context=1"),
    "dropout in a ring": (RING, {"dropout": 0.1}, "'ring' cannot do dropout", "gather, ulysses"),
    "mixing in a ring": (RING, {"attention": "talking_heads"}, "'ring' cannot do mixing", "gather"),
    "mixing of parts of the heads": (ULYSSES, {"attention": "talking_heads"}, "'ulysses' cannot do mixing", "gather"),
    "too few heads": ({"context": 8, "context_strategy": "ulysses"}, {}, "does not divide the 4 heads", "1, 2, 4"),
    "too few with tensor": (
        {"tensor": 4, "context": 2, "context_strategy": "ulysses"}, {}, "the 1 heads .*mesh.tensor=4", "ring"),
    "pairs of heads": (
        {"data": 2, "context": 4, "context_strategy": "ulysses"}, {"attention": "differential"}, "the 2 heads", "1, 2"),
    "a capacity in zig-zag order": (RING, {"mlp": "moe(experts=4, capacity=1.0)"}, "earliest", "ring"),
    "another backend than a ring's": (RING, {"attend": "xla"}, "asks for 'xla'", "auto or blockwise"),
    "a backend of whole texts": (GATHER, {"attend": "causal"}, "'causal' cannot do the queries of a part", "blockwise"),
    "heads that do not divide": ({"tensor": 8}, {}, "mesh.tensor=8 does not divide the 4 heads", "mesh.tensor 1, 2, 4"),
    "an odd number of heads": (
        {"data": 4, "tensor": 2}, {"heads": 5, "kv_heads": 5}, "the 5 heads .* each device would", "mesh.tensor 1, 5"),
    "no experts": ({"data": 2, "expert": 4}, {}, "splits experts.* has none", "mesh.expert to 1"),
    "experts that do not divide": ({"expert": 8}, {"mlp": "moe(experts=4)"}, "the 4 experts", "mesh.expert 1, 2, 4"),
    "layers by themselves": ({"pipeline": 8}, {"layers": 8, "scan": False}, "model.scan=False", "model.scan=True"),
    "more stages than layers": (
        {"pipeline": 8}, {"layers": 4, "scan": True}, "4 layers do not divide into 8 stages", "mesh.pipeline 1, 2, 4"),
    "cycles of layers": (
        {"data": 4, "pipeline": 2}, {"layers": 6, "scan": True, "attention": ("full", "sliding(window=4)")},
        "3 cycles of 2 layers do not divide", "mesh.pipeline 1, 3"),
    "layers and rounds": (
        {"data": 4, "pipeline": 2, "rounds": 2}, {"layers": 2, "scan": True}, "2 stages of 2 rounds", "mesh.pipeline 1"),
    "micro-batches": (
        {"pipeline": 8, "microbatches": 3}, {"layers": 8, "scan": True}, "4 rows .*into 3 micro-batches", "1, 2, 4"),
    "micro-batches for rounds": (
        {"pipeline": 8, "rounds": 2}, {"layers": 16, "scan": True}, "2 rounds need 8 or more", "gives 8 rows"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_split_is_refused_with_what_can(name):
    mesh, model, says, allowed = CASES[name]
    found = refusal(mesh, **model)
    assert found is not None
    with pytest.raises(UserError, match=says):
        raise found
    assert allowed in f"{found.allowed} {found.fix}"


@pytest.mark.parametrize(
    "mesh, model",
    [
        (GATHER, {"attention": "talking_heads", "dropout": 0.1}),
        (ULYSSES, {"attend": "causal", "dropout": 0.0}),
        (GATHER, {"mlp": "moe(experts=4, capacity=1.0)"}),
        ({"data": 4, "context": 2, "context_strategy": "ring(zigzag=False)"}, {"mlp": "moe(experts=4, capacity=1.0)"}),
        (RING, {"attention": "latent(rank=8)", "kv_heads": 4, "position": "none"}),
        ({"data": 8}, {"attention": "gated_delta", "context": 25}),
        ({"fsdp": 2, "expert": 4}, {"mlp": "moe(experts=4)"}),
        ({"pipeline": 8}, {"layers": 8, "scan": True, "attention": "gated_delta"}),
        ({"pipeline": 4, "tensor": 2, "rounds": 2}, {"layers": 8, "scan": True}),
    ],
)
def test_what_can_be_split_is_not(mesh, model):
    assert refusal(mesh, **model) is None


def test_documents_are_split_too():
    assert refusal(RING, pack="segments") is None
    assert "packed documents" in refusal(ULYSSES, pack="segments", attend="causal").what


def test_a_text_of_another_length_is_computed_whole_on_every_device():
    """An evaluation may bring one; what it gives is the same as without the axis."""
    config = variants.config(layers=1, width=16, heads=4, kv_heads=2, head_dim=4, mlp_width=16, context=32)
    model = gpt.GPT(config, nnx.Rngs(0))
    mesh = meshes.make(mesh_config(**RING))
    tokens_BT = np.random.default_rng(0).integers(0, config.vocab, (4, 7))
    split = split_of(mesh, mesh_config(**RING))
    with jax.set_mesh(mesh):
        found = jax.jit(lambda m: m.hidden(tokens_BT, None, None, None, split.place, split.spread)[0])(model)
    np.testing.assert_allclose(found, model.hidden(tokens_BT)[0], atol=1e-5)
