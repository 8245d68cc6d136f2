"""Training steps (forward, backward, clipping, AdamW) beside transformers on PyTorch, in one run.

    python -m benchmarks.train_step [--shapes small base] [--rounds 7] [--start_up] [--dtype float32]

Each framework lives in a process of its own and they take turns; a figure is the median over rounds, a ratio the median
of the ratios within a round. Writes results/train_step.json (train_step_gpu.json where there is a GPU, which both then use);
``python -m benchmarks.table`` puts it into README.md.
"""

import argparse
import functools
from typing import Any

from benchmarks import report, start_up
from benchmarks.contest import OURS, Contest
from benchmarks.shapes import ON_CPU, ON_GPU, SHAPES

ROUND_SECONDS = 2.0  # of a contestant's turn, at least one step
PEERS = ("eager", "compile")  # modes of the peer's worker


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    on_gpu = bool(report.gpu())
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=ON_GPU if on_gpu else ON_CPU)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--start_up", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--dtype", default="bfloat16" if on_gpu else "float32", help="of activations and products")
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": report.machine(), "dtype": options.dtype, "shapes": {}}
    for shape in options.shapes:
        results["shapes"][shape] = measure(shape, options.dtype, options.rounds)
    if options.start_up:
        results["start_up"] = start_up.measure()
    print(f"wrote {report.write('train_step', results)}")


def measure(shape: str, dtype: str, rounds: int) -> dict[str, Any]:
    """All contestants at one shape."""
    with Contest({OURS: "unrolled"}, {f"transformers {mode}": mode for mode in PEERS}) as contest:
        contest.start("build", shape=shape, dtype=dtype)
        return {**contest.report(), **_rounds(shape, dtype, contest, rounds)}


def _rounds(shape: str, dtype: str, contest: Contest, rounds: int) -> dict[str, Any]:
    counts = {name: max(1, round(ROUND_SECONDS / contest(name, "run", count=2))) for name in contest.names}
    turns = {name: functools.partial(contest, name, "run", count=counts[name]) for name in contest.names}
    times = report.interleave(turns, rounds)
    workers = [name for name in (OURS, "transformers eager") if name in contest.names]
    products = {name: functools.partial(contest.ask, name, "gemm", shape=shape, dtype=dtype) for name in workers}
    rates = report.interleave(products, 3)
    gemm = {name: report.summary(values) for name, values in rates.items()}
    step = report.summary(times[OURS])["median"]
    work, batch = contest.ask(OURS, "model_flops", shape=shape), contest.ask(OURS, "data", shape=shape)
    result = {
        "step_seconds": {name: report.summary(values) for name, values in times.items()},
        "speed_up": {name: report.ratio(times[OURS], values) for name, values in times.items() if name != OURS},
        "gemm_flops": gemm,
        "step_flops": work,
        "share_of_gemm": work / step / gemm[OURS]["median"],
        "data_seconds": batch,
        "data_share": batch / step,
    }
    lines = [f"{name} {1e3 * values['median']:.1f} ms" for name, values in result["step_seconds"].items()]
    print(f"{shape}: {', '.join(lines)}; {result['share_of_gemm']:.0%} of the GEMM rate", flush=True)
    return result


if __name__ == "__main__":
    main()
