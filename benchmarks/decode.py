"""Greedy decoding and beam search beside transformers on PyTorch, in one run, with random weights.

    python -m benchmarks.decode [--shape gpt2-124M] [--batches 1 8] [--prompt 16] [--new 128] [--rounds 5]
    python -m benchmarks.decode --beams 4 [the same]
    python -m benchmarks.decode --int8 [the same]

Processes, turns and figures as in ``benchmarks.train_step``; the time of a generation holds its prefill. Writes
results/decode.json, or beam.json where there are several beams; ``python -m benchmarks.table`` puts them into documents.
With --int8 it is ours with keys and values, and with matrices, as int8 beside ours without; into decode_int8.json.
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

INT8 = {"gpt_jax, int8 cache": "int8-cache", "gpt_jax, int8 weights": "int8-weights"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="gpt2-124M")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--beams", type=int, default=1, help="1: greedy decoding")
    parser.add_argument("--prompt", type=int, default=16, help="tokens")
    parser.add_argument("--new", type=int, default=128, help="tokens")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="bfloat16" if report.gpu() else "float32", help="of weights and products")
    parser.add_argument("--int8", action="store_true", help="ours as int8, instead of the peers")
    options = parser.parse_args()
    task = {name: getattr(options, name) for name in ("shape", "beams", "prompt", "new", "dtype")}
    results: dict[str, Any] = {"machine": report.machine(), **task}
    ours, peers = ({OURS: "cached", **INT8}, {}) if options.int8 else ({OURS: "cached"}, PEERS)
    results["batches"] = {batch: measure(ours, peers, batch, options.rounds, task) for batch in options.batches}
    name = "decode_int8" if options.int8 else "beam" if options.beams > 1 else "decode"
    print(f"wrote {report.write(name, results)}")


def measure(
    ours: dict[str, str], peers: dict[str, str], batch: int, rounds: int, task: dict[str, Any]
) -> dict[str, Any]:
    """All contestants at one batch size; of ours, also what they keep and how exact it is, where there are several."""
    with Contest(ours, peers) as contest:
        contest.start("build_decode", batch=batch, **task)
        turns = {name: functools.partial(contest, name, "run_decode", batch=batch) for name in contest.names}
        times = report.interleave(turns, rounds)
        seconds = {name: report.summary(values) for name, values in times.items()}
        sizes = {"shape": task["shape"], "batch": batch * task["beams"], "dtype": task["dtype"]}
        weights = functools.partial(contest.ask, OURS, "weights", **sizes)
        read = report.interleave({OURS: weights}, 3)[OURS]
        speeds = [f"{name} {batch * task['new'] / values['median']:.1f} tokens/s" for name, values in seconds.items()]
        print(f"batch {batch}: {'; '.join(speeds)}", flush=True)
        speed_ups = {name: report.ratio(times[OURS], values) for name, values in times.items() if name != OURS}
        alone = {name: value for name, value in task.items() if name != "beams"}
        kept = {name: contest(name, "compare", batch=batch, **alone) for name in ours if len(ours) > 1}
        for name, values in kept.items():
            print(f"  {name}: {values}", flush=True)
        measured = {"seconds": seconds, "speed_up": speed_ups, "weights_seconds": report.summary(read), "kept": kept}
        return {**contest.report(), **measured}


if __name__ == "__main__":
    main()
