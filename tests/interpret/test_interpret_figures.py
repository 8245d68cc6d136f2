"""Figures can be read: a legend or a colour bar, a scale that a few large values do not spoil, and what is cut in words."""

from xml.etree import ElementTree

import numpy as np
import pytest

from gpt_jax import plotting
from gpt_jax.data.tokenizers.bytes import Bytes
from gpt_jax.interpret import attention, figures


@pytest.fixture
def maps_MNTS():
    """Two layers of two heads that attend to the first token with 0.9 and to the others alike."""
    weights_TS = np.tri(64) / np.arange(1, 65)[:, None] * 0.1
    weights_TS[:, 0] = 0.9
    return np.broadcast_to(weights_TS, (2, 2, 64, 64))


def test_a_sink_does_not_set_the_scale_of_attention(maps_MNTS):
    figure = figures.heads(maps_MNTS, [str(i) for i in range(64)])
    *axes, bar = figure.axes
    assert len(axes) == 4 and bar.get_ylabel() == "attention weight"
    (limits,) = {axis.images[0].get_clim() for axis in axes}
    assert limits[0] == 0 and 0 < limits[1] < 0.1
    assert [axis.get_title() for axis in axes] == [f"layer {m}, head {n}" for m in (0, 1) for n in (0, 1)]
    assert "colours end at" in figure.get_suptitle() and "up to 0.9" in figure.get_suptitle()


def test_an_outlier_is_cut_and_said():
    values = np.full((10, 10), 0.1)
    values[3, 3] = 5.0
    figure = figures.table(values, "scores", "head", "layer")
    axis, _ = figure.axes
    assert axis.images[0].get_clim()[1] == pytest.approx(0.1)
    assert [label.get_text() for label in axis.get_xticklabels()] == [str(i) for i in range(10)]
    assert "colours end at 0.1; 1.0% of the values are beyond, up to 5" in axis.get_title()
    even = figures.table(np.linspace(0.5, 1, 100).reshape(10, 10), "scores", "head", "layer")
    assert even.axes[0].images[0].get_clim()[1] == 1 and even.axes[0].get_title() == "scores"


def test_every_kind_of_curve_is_in_the_legend():
    values = np.array([1.0, 0.1, 1e-6])
    names = [f"blocks/{i}/{part}/w" for i in range(7) for part in ("mlp/up", "mlp/down")]
    figure = figures.spectra(dict.fromkeys([*names, "embed/w"], values), "singular values")
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["blocks/0–6/mlp/up/w, light to dark", "blocks/0–6/mlp/down/w, light to dark", "embed/w"]
    assert len({line.get_color() for line in figure.axes[0].lines}) == 3
    assert "below 0.0001" in figure.axes[0].get_title()


def test_probabilities_have_a_colour_bar():
    figure = figures.lens([["a", "b"]] * 2, np.full((2, 2), 0.5), ["x", "y"])
    assert figure.axes[1].get_ylabel() == "probability"
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["embedding", "0"]


def test_pictures_of_odd_bytes_are_xml(tmp_path):
    """Labels say what a byte is; a name from elsewhere, with characters that XML cannot hold, spoils no picture."""
    tokens = Bytes().encode("a\x0cb\x1bc \ud83d\u2028$\n")
    labels = [attention.label(Bytes(), token) for token in tokens]
    assert labels[:6] == ["a", r"\x0c", "b", r"\x1b", "c", "·"] and labels[-2:] == [r"\$", r"\n"]
    figure = figures.lens([labels[:2]] * 2, np.full((2, 2), 0.5), ["x\x0cy", "\x1b"])
    plotting.save(figure, tmp_path / "picture")
    ElementTree.fromstring((tmp_path / "picture.svg").read_bytes())
