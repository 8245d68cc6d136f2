"""Greedy decoding beside transformers on PyTorch, in one run, with random weights.

    python -m benchmarks.decode [--shape gpt2-124M] [--batches 1 8] [--prompt 16] [--new 128] [--rounds 5]

Processes, turns and figures as in ``benchmarks.train_step``; the time of a generation holds its prefill. Writes
results/decode.json; ``python -m benchmarks.table`` puts it into README.md.
"""

import argparse
import functools
from typing import Any

from benchmarks import report
from benchmarks.contest import OURS, Contest
from benchmarks.shapes import SHAPES

PEERS = {
    "transformers, dynamic cache": "dynamic",
    "transformers, static cache": "static",
    "transformers, static cache, compiled": "compile",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="gpt2-124M")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--prompt", type=int, default=16, help="tokens")
    parser.add_argument("--new", type=int, default=128, help="tokens")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="bfloat16" if report.gpu() else "float32", help="of weights and products")
    options = parser.parse_args()
    task = {"shape": options.shape, "prompt": options.prompt, "new": options.new, "dtype": options.dtype}
    results: dict[str, Any] = {"machine": report.machine(), **task}
    results["batches"] = {batch: measure(batch, options.rounds, task) for batch in options.batches}
    print(f"wrote {report.write('decode', results)}")


def measure(batch: int, rounds: int, task: dict[str, Any]) -> dict[str, Any]:
    """All contestants at one batch size."""
    with Contest({OURS: "cached"}, PEERS) as contest:
        contest.start("build_decode", batch=batch, **task)
        turns = {name: functools.partial(contest, name, "run_decode", batch=batch) for name in contest.names}
        times = report.interleave(turns, rounds)
        seconds = {name: report.summary(values) for name, values in times.items()}
        sizes = {"shape": task["shape"], "batch": batch, "dtype": task["dtype"]}
        weights = functools.partial(contest.ask, OURS, "weights", **sizes)
        read = report.interleave({OURS: weights}, 3)[OURS]
        speeds = [f"{name} {batch * task['new'] / values['median']:.1f} tokens/s" for name, values in seconds.items()]
        print(f"batch {batch}: {'; '.join(speeds)}", flush=True)
        speed_ups = {name: report.ratio(times[OURS], values) for name, values in times.items() if name != OURS}
        measured = {"seconds": seconds, "speed_up": speed_ups, "weights_seconds": report.summary(read)}
        return {**contest.report(), **measured}


if __name__ == "__main__":
    main()
