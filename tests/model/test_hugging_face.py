"""The same weights give the same logits, loss and gradients in transformers' GPT2LMHeadModel (PyTorch)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpt_jax.model import layout
from tests.model.variants import config, logits, model, parameters, tokens

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

C = config(kv_heads=4, layers=3)


@pytest.fixture(scope="module")
def params():
    """Values of the size that a trained model has; at larger ones rounding alone exceeds the tolerance."""
    return jax.tree.map(lambda a: a if float(a.mean()) > 0.5 else 0.3 * a, parameters(C))


@pytest.fixture(scope="module")
def peer(params):
    hf = transformers.GPT2Config(
        n_layer=C.layers, n_embd=C.width, n_head=C.heads, n_inner=C.mlp_width, n_positions=C.context, vocab_size=C.vocab,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    other = transformers.GPT2LMHeadModel(hf).eval()
    missing = other.load_state_dict(to_torch(params), strict=False)
    assert not missing.unexpected_keys and set(missing.missing_keys) <= {"lm_head.weight"}
    return other


def to_torch(params: dict) -> dict:
    """Our tree under transformers' names, with q, k and v side by side in c_attn."""

    def flat(tree, name, rows):
        return {
            f"{name}.weight": np.asarray(tree["w"]).reshape(rows, -1),
            f"{name}.bias": np.asarray(tree["bias"]).reshape(-1),
        }

    def norm(tree, name):
        return {f"{name}.weight": np.asarray(tree["scale"]), f"{name}.bias": np.asarray(tree["bias"])}

    embed = params["embed"]
    out = {"transformer.wte.weight": embed["tokens"]["w"], "transformer.wpe.weight": embed["position"]["w"]}
    out |= norm(params["norm"], "transformer.ln_f")
    for i, block in params["blocks"].items():
        at = f"transformer.h.{i}"
        attention = block["attention"]
        parts = [flat(attention[name], "x", C.width) for name in ("q", "k", "v")]
        for leaf, axis in (("weight", 1), ("bias", 0)):
            out[f"{at}.attn.c_attn.{leaf}"] = np.concatenate([part[f"x.{leaf}"] for part in parts], axis)
        out |= flat(attention["out"], f"{at}.attn.c_proj", C.width)
        out |= flat(block["mlp"]["up"], f"{at}.mlp.c_fc", C.width)
        out |= flat(block["mlp"]["down"], f"{at}.mlp.c_proj", C.mlp_width)
        out |= norm(block["norm1"], f"{at}.ln_1") | norm(block["norm2"], f"{at}.ln_2")
    return {name: torch.from_numpy(np.array(leaf)) for name, leaf in out.items()}


@pytest.mark.parametrize("scan", [False, True])
def test_logits(params, peer, scan):
    tokens_BT = tokens(C, 3, C.context)
    live = layout.stack(params, 1) if scan else params
    got = logits(config(kv_heads=4, layers=3, scan=scan), live, tokens_BT)
    with torch.no_grad():
        expected = peer(torch.from_numpy(tokens_BT).long()).logits.numpy()
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_gradients_of_the_loss(params, peer):
    tokens_BT = tokens(C, 3, C.context)

    @jax.jit
    def loss(params):
        logp_BTV = jax.nn.log_softmax(model(C, params)(tokens_BT[:, :-1]))
        return -jnp.take_along_axis(logp_BTV, tokens_BT[:, 1:, None], axis=2).mean()

    value, grads = jax.value_and_grad(loss)(params)
    ids = torch.from_numpy(tokens_BT).long()
    peer.zero_grad()
    expected = peer(ids, labels=ids).loss
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=1e-6)
    theirs = dict(peer.named_parameters())
    for name, leaf in to_torch(grads).items():
        np.testing.assert_allclose(leaf.numpy(), theirs[name].grad.numpy(), atol=1e-5, err_msg=name)


def test_greedy_generation(params, peer):
    from gpt_jax.sample.decode import Decoder, Sampling

    prompts = tokens(C, 2, 6)
    got = Decoder(C, params).generate(prompts.tolist(), max_new_tokens=12, sampling=Sampling(greedy=True), seeds=[0, 0])
    ids = torch.from_numpy(prompts).long()
    settings = functools.partial(peer.generate, do_sample=False, max_new_tokens=12, pad_token_id=0)
    assert got.tokens == settings(ids, attention_mask=torch.ones_like(ids))[:, 6:].tolist()
