"""Scaling laws planted in made-up runs, and what fits make of them."""

import json

import numpy as np
import pytest

import launch
from benchmarks.law import HOFFMANN, THETA, covered, planted
from gpt_jax import registry
from gpt_jax.errors import UserError
from gpt_jax.study.scaling import analysis, compute_optimal, isoflop, table
from gpt_jax.study.scaling import fit as fitting
from gpt_jax.study.scaling.laws import annealing as annealed
from gpt_jax.study.scaling.table import RunTable


@pytest.mark.parametrize("name", registry.names("study.scaling.laws"))
def test_derivatives_are_those_of_the_law(name):
    law, runs = registry.build("study.scaling.laws", name), planted(name, count=20)
    theta = THETA[name][None] + np.random.default_rng(0).normal(0, 0.01, (3, len(THETA[name])))
    _, jacobian = law.evaluate(theta, runs.columns)
    for p in range(theta.shape[1]):
        step = 1e-6 * np.eye(theta.shape[1])[p]
        ends = [law.evaluate(theta + sign * step, runs.columns)[0] for sign in (1, -1)]
        np.testing.assert_allclose(jacobian[..., p], (ends[0] - ends[1]) / 2e-6, rtol=1e-5, atol=1e-7)


@pytest.mark.every(2)
@pytest.mark.parametrize("name", registry.names("study.scaling.laws"))
def test_a_planted_law_is_found_without_noise(name):
    law = registry.build("study.scaling.laws", name)
    found = fitting.fit(law, planted(name))
    right = law.report(THETA[name][None])[0]
    np.testing.assert_allclose(list(found.coefficients.values()), right, rtol=2e-3)
    exponents = [i for i, coefficient in enumerate(law.coefficients) if coefficient.startswith(("alpha", "beta"))]
    assert np.abs(np.array(list(found.coefficients.values())) - right)[exponents].max() < 1e-3


@pytest.mark.slow
def test_every_seed_finds_the_same_optimum():
    law, runs = registry.build("study.scaling.laws", "chinchilla"), planted(noise=0.01)
    found = [list(fitting.fit(law, runs, seed=seed).coefficients.values()) for seed in range(20)]
    np.testing.assert_allclose(found, np.broadcast_to(found[0], np.shape(found)), rtol=1e-3)


def test_the_optimum_found_is_one_and_better_than_the_truth():
    law, runs = registry.build("study.scaling.laws", "chinchilla"), planted(noise=0.01)
    found = fitting.fit(law, runs)
    uniform = np.full((1, len(runs)), 1 / len(runs))

    def objective(theta):
        residual = law.evaluate(theta[None], runs.columns)[0] - np.log(runs["loss"])
        return float((uniform * fitting.huber(residual, fitting.DELTA)).sum())

    assert found.optima[0].objective == pytest.approx(objective(found.theta))
    assert found.optima[0].objective <= objective(THETA["chinchilla"])
    for direction in np.random.default_rng(0).standard_normal((50, 5)):
        assert objective(found.theta + 1e-3 * direction) >= found.optima[0].objective


@pytest.mark.slow
def test_intervals_cover_the_truth():
    """Of 16 sets of runs with 1% noise, five coefficients each."""
    assert np.mean([covered(100 + seed, 50, 200) for seed in range(16)]) >= 0.93


def test_a_profile_rises_from_the_fit_and_holds_the_truth():
    law, runs = registry.build("study.scaling.laws", "chinchilla"), planted(noise=0.01)
    found = fitting.fit(law, runs)
    values = found.theta[3] + np.linspace(-0.1, 0.1, 21)
    rise = fitting.profile(found, runs, 3, values)
    assert (
        rise[10] == pytest.approx(0, abs=1e-3)
        and (np.diff(rise[10:]) > -1e-3).all()
        and (np.diff(rise[:11]) < 1e-3).all()
    )
    assert np.interp(HOFFMANN[3], values, rise) < 10 and min(rise[0], rise[-1]) > 3.84


def test_the_optimal_split_is_that_of_the_formula():
    law, flops = registry.build("study.scaling.laws", "chinchilla"), 1e21
    params, tokens, loss = compute_optimal.optimum(law, THETA["chinchilla"][None], flops)
    _, a, b, alpha, beta = HOFFMANN
    right = (alpha * a / (beta * b)) ** (1 / (alpha + beta)) * (flops / 6) ** (beta / (alpha + beta))
    assert params[0] == pytest.approx(right, rel=1e-3) and 6 * params[0] * tokens[0] == pytest.approx(flops)
    assert loss[0] == pytest.approx(1.69 + a / params[0] ** alpha + b / tokens[0] ** beta, rel=1e-6)
    assert compute_optimal.exponent(law, THETA["chinchilla"][None], flops)[0] == pytest.approx(
        beta / (alpha + beta), abs=1e-3
    )


def ladder(spread: float, sizes: int = 7) -> RunTable:
    """Runs of three budgets, sizes around the best by a factor of ``spread`` both ways."""
    law, rows = registry.build("study.scaling.laws", "chinchilla"), []
    for flops in (1e19, 1e20, 1e21):
        best = compute_optimal.optimum(law, THETA["chinchilla"][None], flops)[0][0]
        rows += [(size, flops / (6 * size)) for size in best * np.geomspace(1 / spread, spread, sizes)]
    params, tokens = np.array(rows).T
    columns = {"params": params, "tokens": tokens, "flops": 6 * params * tokens}
    columns["loss"] = np.exp(law.evaluate(THETA["chinchilla"][None], columns)[0][0])
    return RunTable(tuple(map(str, range(len(rows)))), columns, ())


def test_parabolas_find_the_exponent():
    found = isoflop.parabolas(ladder(2.0))
    assert found.exponent == pytest.approx(0.28 / 0.62, abs=0.01) and len(found.minima) == 3


def test_parabolas_without_a_lowest_point_are_refused():
    runs = ladder(2.0, sizes=9)
    groups = isoflop.budgets(runs)
    with pytest.raises(UserError, match="outside the trained sizes"):
        isoflop.parabolas(runs.take(np.concatenate([group[:4] for group in groups])))
    with pytest.raises(UserError, match="4 or more sizes each"):
        isoflop.parabolas(runs.take(np.concatenate([group[3:6] for group in groups])))
    with pytest.raises(UserError, match="4 or more sizes each"):
        isoflop.parabolas(planted())
    runs.columns["loss"] = 6 - runs.columns["loss"]
    with pytest.raises(UserError, match="opens downwards"):
        isoflop.parabolas(runs)


def test_the_envelope_of_curves_finds_the_exponent():
    law = registry.build("study.scaling.laws", "chinchilla")
    params, tokens = (a.ravel() for a in np.meshgrid(np.geomspace(1e7, 1e10, 40), np.geomspace(1e8, 1e12, 60)))
    columns = {"params": params, "tokens": tokens, "flops": 6 * params * tokens}
    columns["loss"] = np.exp(law.evaluate(THETA["chinchilla"][None], columns)[0][0])
    found = isoflop.envelope(RunTable(tuple(map(str, range(len(params)))), columns, ()))
    assert found.exponent == pytest.approx(0.28 / 0.62, abs=0.02)


def test_the_areas_of_a_schedule():
    s1, s2 = annealed.areas([1.0, 1.0, 0.5, 0.0], memory=0.5)
    np.testing.assert_allclose(s1, [1, 2, 2.5, 2.5])
    np.testing.assert_allclose(s2, [0, 0, 0.5, 0.5 + 0.75])


def write_table(path, runs: RunTable, extra: str = "") -> None:
    rows = zip(runs["params"], runs["tokens"], runs["loss"], strict=True)
    path.write_text("params,tokens,loss\n" + "".join(f"{n},{d},{loss}\n" for n, d, loss in rows) + extra)


def test_the_command(tmp_path, capsys):
    write_table(tmp_path / "runs.csv", planted(noise=0.01), extra="1e9,2e10,nan\n")
    out = tmp_path / "found"
    assert launch.main(["fit", f"--runs={tmp_path / 'runs.csv'}", f"--out={out}", "--resamples=50"]) == 0
    said = capsys.readouterr().out
    assert "alpha" in said and "line 247: its loss is nan" in said and "10x extrapolated" in said
    found = json.loads((out / "fit.json").read_text())
    assert found["points"] == 245 and (out / "fit.png").stat().st_size > 10_000
    interval = found["coefficients"]["alpha"]["interval"]
    assert interval["low"] < 0.34 < interval["high"]


GRID = [(params, tokens) for params in (1e4, 3e4, 1e5) for tokens in (1e5, 3e5, 1e6)]
RANDOM = np.random.default_rng(0)
# Losses of GRID that do not determine the law, and the coefficient that shows it.
UNDETERMINED = {
    "E": [3 * (n / 1e4) ** -0.1 * (d / 1e5) ** -0.1 * (1 + 0.01 * RANDOM.standard_normal()) for n, d in GRID],
    "alpha": [(3.5 if n < 2e4 else 3.0) + 0.1 * (d / 1e5) ** -0.3 + 1e-3 * RANDOM.standard_normal() for n, d in GRID],
    "beta": [3 + 0.1 * (d / 1e5) ** 0.3 + 0.3 * (n / 1e4) ** -0.3 for n, d in GRID],
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("coefficient", UNDETERMINED)
def test_a_degenerate_fit_says_so(tmp_path, capsys, coefficient):
    params, tokens = np.array(GRID).T
    columns = {"params": params, "tokens": tokens, "loss": np.array(UNDETERMINED[coefficient])}
    write_table(tmp_path / "runs.csv", RunTable(("",) * len(GRID), columns, ()))
    command = ["fit", f"--runs={tmp_path / 'runs.csv'}", f"--out={tmp_path / 'found'}", "--resamples=20"]
    assert launch.main(command) == 0
    said = capsys.readouterr().out
    assert said.startswith("degenerate fit: ") and "starts ended" not in said
    assert f"{coefficient} = " in said.split("\n\n")[0] and "3 distinct params, 3 distinct tokens" in said
    assert json.loads((tmp_path / "found" / "fit.json").read_text())["degenerate"]


def test_a_determined_fit_is_not_degenerate():
    for name in registry.names("study.scaling.laws"):
        law, runs = registry.build("study.scaling.laws", name), planted(name, count=20)
        right = dict(zip(law.coefficients, law.report(THETA[name][None])[0], strict=True))
        limits = law.limits(float(runs["loss"].min()))
        assert all(low <= right[coefficient] <= high for coefficient, (low, high) in limits.items())


@pytest.mark.parametrize("words", [[], ["--runs=a.csv", "--workdir=sweeps/x"]], ids=["neither", "both"])
def test_runs_come_from_a_table_or_a_sweep(capsys, words):
    assert launch.main(["fit", *words]) == 2
    assert "one of --runs=runs.csv and --workdir=sweeps/x" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, what",
    [
        ("params,tokens\n1,2\n", "no column loss"),
        ("params,tokens,loss\n1e6,1e8,3\n1e6,x,3\n", "line 3"),
        ("params,tokens,loss\n1e6,1e8,3\n1e6,-1,3\n", "line 3"),
        ("params,tokens,loss\n1e6,1e8,3\n", "6 or more"),
        ("params,tokens,loss\n" + "1e6,1e8,3\n2e6,1e8,3\n" * 3, "2 distinct params"),
        ("name,params,tokens,loss\nsmall,1e6,1e8,inf\n", "small: its loss is inf"),
        ("", "no column params, tokens, loss"),
        ("params,tokens,loss\n124,300,500,2,500,000,000,3.2\n", "5 more cells than the head"),
    ],
)
def test_bad_tables_are_named(tmp_path, capsys, text, what):
    (tmp_path / "runs.csv").write_text(text)
    assert launch.main(["fit", f"--runs={tmp_path / 'runs.csv'}"]) == 2
    assert what in capsys.readouterr().err


def test_a_word_for_done_counts_as_done(tmp_path):
    rows = [f"{word},1e6,1e8,3,{word}" for word in ("done", "finished", "COMPLETED", "success", "crashed", "running")]
    (tmp_path / "runs.csv").write_text("\n".join(["name,params,tokens,loss,status", *rows]))
    found = table.read(tmp_path / "runs.csv")
    assert found.names == ("done", "finished", "COMPLETED", "success") and len(found.excluded) == 2


@pytest.mark.parametrize("unit", [8.64e19, 1e18, 1e15, 1e12, 1e3])
def test_flops_in_another_unit_are_refused(tmp_path, unit):
    """PF-days, EFLOPs, …: far from 6 params tokens, of which architectures and conventions are within a factor of 20."""
    path = tmp_path / "runs.csv"
    for factor in (1 / 20, 1 / 3, 1, 20):
        flops = 6 * 1e6 * 1e8 * factor
        path.write_text(f"params,tokens,loss,flops\n1e6,1e8,3,{flops}\n1e6,1e8,3,{6e14}\n")
        assert len(table.read(path)) == 2
        path.write_text(f"params,tokens,loss,flops\n1e6,1e8,3,{flops / unit}\n1e6,1e8,3,{6e14 / unit}\n")
        with pytest.raises(UserError, match="times 6 params tokens"):
            table.read(path)


def test_tables_of_spreadsheets(tmp_path):
    path, text = tmp_path / "runs.csv", "name,params,tokens,loss\na,1e6,1e8,3\ncafé,1e6,1e8,3\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes(text.encode(encoding))
        assert table.read(path).names == ("a", "café")
    path.write_bytes(text.encode("cp1252"))
    with pytest.raises(UserError, match="not UTF-8: byte .* 0xe9") as error:
        table.read(path)
    assert "line 3" in error.value.where
    path.write_text(f"{text}{'x' * 200_000},1e6,1e8,3\n")
    with pytest.raises(UserError, match="no table") as error:
        table.read(path)
    assert "line 4" in error.value.where


def test_runs_that_did_not_finish_are_left_out(tmp_path):
    (tmp_path / "runs.csv").write_text("name,params,tokens,loss,status\na,1e6,1e8,3,done\nb,1e6,1e8,3,resumable\n")
    found = table.read(tmp_path / "runs.csv")
    assert found.names == ("a",) and found.excluded == ("b: its status is resumable",)
    assert found["flops"][0] == 6e14


def test_the_study_says_how_it_extrapolates():
    found = analysis.analyse(planted(noise=0.002), resamples=50)
    assert found.held_out.mean_size < 0.01 and found.splits[-1].beyond == pytest.approx(100)
    assert found.exponent.value == pytest.approx(0.28 / 0.62, abs=0.03)
    assert 0.28 / 0.62 in found.exponent.interval
