"""Drawings name every array of the model they are made from, say who reads what, and fit their boxes."""

import itertools
import re
import xml.etree.ElementTree as ElementTree

import jax
import pytest

import launch
from gpt_jax import registry
from gpt_jax.mesh.diagram import Graph, alone
from gpt_jax.mesh.diagram.svg import CELL_X, svg
from gpt_jax.mesh.diagram.text import text
from gpt_jax.mesh.diagram.trace import graph
from gpt_jax.model import gpt
from gpt_jax.model.block import PreNormBlock
from gpt_jax.model.where import Where
from tests.model.variants import VARIANTS, config

GPT2 = dict(layers=12, width=768, heads=12, kv_heads=12, head_dim=64, mlp_width=3072, vocab=50257, context=1024)
LOCAL = "sliding(window=512, qk_norm='rms')"
MODELS = {
    "gpt2": GPT2,
    "cycle": GPT2
    | dict(attention=(LOCAL,) * 5 + ("full(gate=True, position='none')",), position="rope", kv_heads=4, bias=False)
    | dict(block="sandwich", norm="rmsnorm", mlp="swiglu", tied=False, logit_softcap=30.0),
    "experts": dict(block="parallel", position="alibi", mlp="moe(experts=4, shared=1)", tied=False),
    "deepnorm": dict(layers=8, block="post(deepnorm=True, embed_skip=True)", init="deepnorm", position="t5"),
    "latent": dict(attention="latent(rank=6, rope_dim=2, q_rank=5)", kv_heads=4, position="rope"),
    "recurrent": dict(attention=("gated_delta", "linear"), position="rope", init="mup(base_width=8)"),
    "first values": dict(attention="full(value_residual=True, sink=True, qk_norm='l2')", position="learned"),
}


@pytest.fixture(scope="module")
def drawn() -> dict[str, Graph]:
    return {name: graph(config(**changes)) for name, changes in MODELS.items()}


def shapes(name: str) -> list[tuple[str, tuple[int, ...]]]:
    """(last key, shape) of each parameter of one layer of each kind, and of those outside of layers."""
    c = config(**MODELS[name], scan=True)
    leaves = jax.tree.leaves_with_path(jax.eval_shape(lambda key: gpt.init(c, key), jax.random.key(0)))
    return [(path[-1].key, leaf.shape[1:] if path[0].key == "blocks" else leaf.shape) for path, leaf in leaves]


def rectangles(drawing: str) -> list[tuple[float, float, float, float]]:
    """(left, top, right, bottom) of the boxes of an SVG."""
    found = []
    for element in ElementTree.fromstring(drawing).findall(".//{*}rect"):
        if element.get("class") == "box":
            x, y, width, height = (float(element.get(key)) for key in ("x", "y", "width", "height"))
            found.append((x, y, x + width, y + height))
    return found


def words(drawing: str) -> list[tuple[float, float, str]]:
    """(left, baseline, text) of what is written in the coordinates of the boxes."""
    (inside,) = (g for g in ElementTree.fromstring(drawing).findall(".//{*}g") if g.get("transform"))
    return [(float(t.get("x")), float(t.get("y")), t.text) for t in inside.findall(".//{*}text")]


def overlaps(boxes: list[tuple[float, float, float, float]]) -> list[tuple]:
    """Pairs that share some area, and of which neither contains the other."""

    def within(a, b):
        return b[0] <= a[0] and b[1] <= a[1] and a[2] <= b[2] and a[3] <= b[3]

    def apart(a, b):
        return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]

    return [(a, b) for a, b in itertools.combinations(boxes, 2) if not (apart(a, b) or within(a, b) or within(b, a))]


def overflowing(boxes: list, texts: list[tuple[float, float, str]]) -> list[str]:
    """Texts that begin inside a box and end outside of it."""
    return [
        what
        for x, y, what in texts
        for left, top, right, bottom in boxes
        if left <= x <= right and top < y < bottom and x + CELL_X * len(what) > right
    ]


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_is_named_with_its_shape(drawn, name):
    shown = text(drawn[name])
    drawing = "\n".join(what for _, _, what in words(svg(drawn[name])))
    for key, shape in shapes(name):
        named = re.compile(rf"\b{key} \[{', '.join(map(str, shape))}\]")
        assert named.search(shown), (key, shape)
        assert named.search(drawing), (key, shape)


@pytest.mark.parametrize("name", MODELS)
def test_every_arrow_has_its_shape(drawn, name):
    def walk(boxes):
        for box in boxes:
            if box.kind != "in":
                yield box
            if box.inner is not None:
                yield from walk(box.inner.boxes)

    shown, drawing = text(drawn[name]), svg(drawn[name])
    arrays = {f"[{', '.join(box.shape)}]" for box in walk(drawn[name].boxes)}
    assert arrays and all(array in shown and array in drawing for array in arrays)
    c = config(**MODELS[name])
    assert f"[B, T, {c.vocab}]" in shown and f"[B, T, {c.width}]" in shown


def touching(boxes: list, texts: list[tuple[float, float, str]]) -> list[str]:
    """Texts that begin outside of a box with none inside, and run into it."""
    return [
        what
        for x, y, what in texts
        for left, top, right, bottom in boxes
        if x < left < x + CELL_X * len(what) and top < y < bottom
    ]


def innermost(boxes: list) -> list:
    return [
        a
        for a in boxes
        if not any(b != a and a[0] <= b[0] and a[1] <= b[1] and b[2] <= a[2] and b[3] <= a[3] for b in boxes)
    ]


@pytest.mark.parametrize("name", MODELS)
def test_boxes_do_not_overlap_and_texts_fit(drawn, name):
    check(svg(drawn[name], "a name with <&>"))


@pytest.mark.parametrize("kind, call", [v for v in VARIANTS if v[0] != "attend"])
def test_every_variant_can_be_drawn(kind, call):
    without = kind == "position" or call == "latent(rank=6, q_rank=4)"  # which has no channels to rotate
    position = {} if without else {"position": "rope"}
    check(svg(graph(config(**position | {kind: call}))))


def check(drawing: str) -> None:
    boxes, texts = rectangles(drawing), words(drawing)
    assert len(boxes) > 10
    assert not overlaps(boxes)
    assert not overflowing(boxes, texts)
    assert not touching(innermost(boxes), texts)
    for (x, y, what), (x2, y2, other) in itertools.combinations(texts, 2):
        assert y != y2 or x + CELL_X * len(what) <= x2 or x2 + CELL_X * len(other) <= x, (what, other)


@pytest.mark.parametrize("name", MODELS)
def test_the_count_is_that_of_the_model(drawn, name):
    c = config(**MODELS[name])
    total = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(lambda: gpt.init(c, jax.random.key(0)))))
    assert drawn[name].title[0] == f"{total:,} parameters"


def test_the_checks_can_fail():
    assert overlaps([(0, 0, 10, 10), (5, 5, 15, 15)]) and not overlaps([(0, 0, 10, 10), (2, 2, 4, 4), (20, 0, 30, 10)])
    assert overflowing([(0, 0, 10, 10)], [(2, 5, "abc")]) == ["abc"]
    assert touching([(12, 0, 20, 10)], [(2, 5, "a"), (2, 15, "abc")]) == [] and touching(
        [(9, 0, 20, 10)], [(2, 5, "ab")]
    )
    assert innermost([(0, 0, 9, 9), (1, 1, 2, 2)]) == [(1, 1, 2, 2)]


def reads(block: str) -> dict[str, list[str]]:
    """Box -> what it reads, in a layer."""
    boxes = graph(config(block=block)).find("layer 0").inner.boxes
    return {
        f"{box.name}{i if box.name == '+' else ''}": [boxes[s].name for s in box.inputs] for i, box in enumerate(boxes)
    }


def test_placements_are_read_from_what_blocks_do():
    pre, post, both = reads("pre"), reads("post"), reads("sandwich")
    assert pre["norm1"] == ["x"] and pre["attention"] == ["norm1"] and pre["+3"] == ["x", "attention"]
    assert post["attention"] == ["x"] and post["norm1"] == ["+"] and post["mlp"] == ["norm1"]
    assert both["norm1_out"] == ["attention"] and both["+4"] == ["x", "norm1_out"]
    parallel = reads("parallel(shared_norm=False)")
    assert parallel["norm1"] == parallel["norm2"] == ["x"]
    assert sorted(next(v for k, v in parallel.items() if k.startswith("+"))) == ["attention", "mlp", "x"]


def test_a_block_of_ones_own_is_drawn_as_it_computes(monkeypatch):
    class Backwards(PreNormBlock):
        def __call__(self, x_BTD, where: Where, cache=None):
            y_BTD, report = self.mlp(self.norm2(x_BTD), where)
            x_BTD = x_BTD + 0.25 * y_BTD
            y_BTD, cache = self.attention(self.norm1(x_BTD), where, cache)
            return x_BTD + y_BTD, cache, report

    monkeypatch.setitem(registry._variants, ("model.block", "backwards"), Backwards)
    order = [line for line in text(graph(config(block="backwards"))).splitlines() if " · " in line or "(x" in line]
    names = [re.search(r"norm[12]|mlp|attention|x \+ 0.25·mlp", line) for line in order]
    found = [n.group() for n in names if n]
    assert found == ["norm2", "mlp", "x + 0.25·mlp", "norm1", "attention"]


def test_factors_are_those_of_the_whole_model(drawn):
    shown = text(drawn["deepnorm"])
    assert "(w·x + w·embed)" in shown
    assert "(2·x + attention)" in shown and "(2·norm1 + mlp)" in shown  # (2 L)^(1/4) of 8 layers
    assert "(0.5·norm)" in text(drawn["recurrent"])  # muP's factor of the logits: a base half as wide


def test_equal_layers_are_drawn_once_and_counted(drawn):
    shown = text(drawn["cycle"])
    assert "layers 1 to 5 of every 6 · × 10 · SandwichBlock" in shown and "layer 6 of every 6 · × 2 ·" in shown
    assert shown.count("attention · SoftmaxAttention") == 2 and shown.count("gate=") == 0
    assert shown.count("window=512") == 1 and "softcap=30" in shown
    # The layer without positions of its own turns nothing.
    assert shown.count("Rope.rotate") == 2


def test_one_box_can_be_drawn_alone(drawn):
    whole = alone(drawn["gpt2"].find("attention"))
    assert "embed" not in text(whole) and "q · Linear" in text(whole)
    closed = text(drawn["gpt2"].closed("attention", "mlp"))
    assert "q · Linear" not in closed and "attention · SoftmaxAttention" in closed
    with pytest.raises(KeyError):
        drawn["gpt2"].find("encoder")


def test_the_command(tmp_path, capsys):
    ours = ["plan", "--config=configs/gpt2.py:124m", "--config.model.layers=3"]
    assert launch.main([*ours, "--diagram=text"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("configs/gpt2.py:124m\n") and "layer × 3 · PreNormBlock" in shown
    file = tmp_path / "block.svg"
    assert launch.main([*ours, f"--diagram={file}"]) == 0
    assert rectangles(file.read_text(encoding="utf-8"))
    assert launch.main([*ours, "--diagram=block.png"]) == 2
    assert ".svg" in capsys.readouterr().err
    assert launch.main([*ours, f"--diagram={tmp_path}/none/block.svg"]) == 2
