"""The loss figure shows what metrics.jsonl holds."""

import math
import struct
from collections.abc import Iterator

import matplotlib.figure
import matplotlib.image
import numpy as np
import pytest

from gpt_jax.errors import UserError
from gpt_jax.train.record import figures, metrics


def run(workdir, losses, valid=(), **summary):
    log = metrics.MetricsLog(workdir, -1)
    for step, loss in enumerate(losses, start=1):
        log.write(step, {"tokens": 100 * step, "train/loss": loss})
    for step, loss in valid:
        log.write(step, {"tokens": 100 * step, "valid/loss": loss})
    log.close()
    if summary:
        rest = dict(status="done", steps=len(losses), tokens=100 * len(losses), seconds=1.0, final={}, best={})
        metrics.write_summary(workdir, rest | summary)


@pytest.fixture
def drawn(monkeypatch) -> Iterator[list]:
    """The figures that are made while the test runs."""
    found = []

    class Kept(matplotlib.figure.Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            found.append(self)

    monkeypatch.setattr(matplotlib.figure, "Figure", Kept)
    figures._frame.cache_clear()
    yield found
    figures._frame.cache_clear()


def test_three_panels_with_their_axes(tmp_path, drawn):
    losses = [4 / math.sqrt(k) for k in range(1, 41)]
    run(tmp_path, losses, [(20, 1.5), (40, 1.25)], flops=6e9, facts={"entropy_rate": 0.5})
    path = figures.loss_figure(tmp_path)
    (figure,) = drawn
    panels = figure.axes
    assert [p.get_xlabel() for p in panels] == ["steps", "tokens (log scale)", "training FLOPs (log scale)"]
    assert [p.get_ylabel() for p in panels] == ["loss (nats/token)", "", ""]
    assert [p.get_xscale() for p in panels] == ["linear", "log", "log"]
    legend = [text.get_text() for text in panels[0].get_legend().get_texts()]
    assert legend == ["train", "valid", "entropy rate 0.5"]
    for panel, factor in zip(panels, (1, 100, 100 * 6e9 / 4000), strict=True):
        train, valid, floor = panel.get_lines()
        np.testing.assert_allclose(train.get_xdata(), factor * np.arange(1, 41))
        np.testing.assert_allclose(train.get_ydata(), losses)
        np.testing.assert_allclose(valid.get_xdata(), [20 * factor, 40 * factor])
        assert set(floor.get_ydata()) == {0.5}
    low, high = panels[0].get_ylim()
    assert low < 0.5 and high > 4
    texts = [text.get_text() for text in figure.texts]
    assert texts[0] == tmp_path.name and "40 steps" in texts[1] and "1.2500 at best (step 40)" in texts[1]

    assert path == tmp_path / "figures" / "loss.png"
    raw = path.read_bytes()
    assert raw[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", raw[16:24]) == (1806, 588)
    image = matplotlib.image.imread(path)[..., :3]
    for colour in (figures.BLUE, figures.VERMILION, figures.GREEN):
        rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        assert (np.abs(image - rgb).max(-1) < 0.2).sum() > 100, colour


def test_a_run_without_a_summary_has_no_panel_of_flops(tmp_path, drawn):
    run(tmp_path, [3.0, 2.0])
    figures.loss_figure(tmp_path)
    assert [p.get_xlabel() for p in drawn[0].axes] == ["steps", "tokens (log scale)"]


def test_long_runs_are_averaged_down(tmp_path, drawn):
    losses = np.random.default_rng(0).standard_normal(2500) + 5
    run(tmp_path, losses)
    figures.loss_figure(tmp_path)
    line = drawn[0].axes[0].get_lines()[0]
    np.testing.assert_allclose(line.get_ydata()[:-1], losses[: 833 * 3].reshape(-1, 3).mean(1))
    assert len(line.get_xdata()) == 834 and line.get_xdata()[0] == 2


def test_a_figure_shows_nothing_of_the_one_before(tmp_path):
    first, second = tmp_path / "a" / "run", tmp_path / "b" / "run"
    for workdir in (first, second):
        workdir.mkdir(parents=True)
        run(workdir, [4.0, 3.0, 2.5], [(3, 2.6)], flops=6e9)
    figures._frame.cache_clear()
    alone = figures.loss_figure(first).read_bytes()
    between = tmp_path / "between"
    between.mkdir()
    run(between, [90.0 / k for k in range(1, 900)], flops=7e15, facts={"entropy_rate": 0.5})
    figures.loss_figure(between)
    assert figures.loss_figure(second).read_bytes() == alone


def test_spikes_and_holes_do_not_hide_the_curve(tmp_path, drawn):
    run(tmp_path, [4.0, 3.0, 1e9, math.nan, math.inf, 2.0])
    figures.loss_figure(tmp_path)
    panel = drawn[0].axes[0]
    assert list(panel.get_lines()[0].get_xdata()) == [1, 2, 3, 6] and panel.get_ylim()[1] < 6


@pytest.mark.parametrize("losses", [[], [math.nan, math.inf]])
def test_without_a_loss_there_is_no_figure(tmp_path, losses):
    run(tmp_path, losses)
    with pytest.raises(UserError, match="no finite train/loss"):
        figures.loss_figure(tmp_path)
    assert not (tmp_path / "figures").exists()
