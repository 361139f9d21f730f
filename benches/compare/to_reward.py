"""Time to a held-out accuracy on one-digit sums, ours beside TRL's, alternately.

    python3 benches/compare/to_reward.py --model FOLDER --trainer target/release/trainer [--python PYTHON]
        [--target 0.5] [--every 3] [--most 24] [--repeats 1] [--seed 17] [--ours RATE[,RATE]] [--theirs RATE[,RATE]]
        [--set KEY=VALUE]...

The 100 sums of two one-digit numbers are split by a seed into 50 to train on and 50 held out; both sides train on the
former as `run.py`'s `step_add1` does (4 prompts x 8 completions, f32, AdamW at a constant rate). Every EVERY
steps `trainer eval` samples 8 completions per held-out sum at temperature 1 from either side's policy; the
clock runs during training steps only. Each rate is run `--repeats` times (a new seed of the split and of
ours); a row per run, then per side the rate with the least median, and the ratio of those medians.
`--set` goes to ours: `selection.method=hive` and the like.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import sys
import tempfile

from run import HERE, STEP_SETS, last_line, run

THREADS = "2"


def split(folder, seed):
    """Files of sums to train on and held out."""
    sums = [(a, b) for a in range(10) for b in range(10)]
    random.Random(seed).shuffle(sums)
    paths = {}
    for name, part in (("train", sums[:50]), ("held_out", sums[50:])):
        rows = ({"problem": f"What is {a} + {b}?", "answer": str(a + b), "sum": [a, b]} for a, b in part)
        paths[name] = pathlib.Path(folder, f"{name}.jsonl")
        paths[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return paths


def data_sets(paths):
    values = (f"data.train={paths['train']}", f"data.held_out={paths['held_out']}", "data.held_out_size=50")
    return [word for value in values for word in ("--set", value)]


def ours(given, paths, rate, seed, folder):
    """The curve of one run, its file of metrics read to the target."""
    out = tempfile.mkdtemp(dir=folder)
    command = [given.trainer, "--recipe", "smollm2-add1", "--model", given.model, "--quiet"]
    command += ["--threads", THREADS, "--steps", str(given.most), "--seed", str(seed), "--out", out]
    command += data_sets(paths)
    rows = (f"update.learning_rate={rate}", f"eval.every={given.every}", "eval.samples=8")
    for value in (*STEP_SETS, *rows, *given.set):
        command += ["--set", value]
    run(command, folder)
    curve, trained = [], 0.0
    for line in pathlib.Path(out, "metrics.jsonl").read_text().splitlines():
        step = json.loads(line)
        trained += step["timing"]["step_secs"]
        if step["eval_accuracy"] is not None:
            curve.append([step["step"], trained, step["eval_accuracy"]])
    return curve


def theirs(given, paths, rate, seed, folder):
    evaluate = [given.trainer, "eval", "--recipe", "smollm2-add1", "--threads", THREADS, "--json", "--quiet"]
    evaluate += ["--samples", "8", "--seed", str(seed), *data_sets(paths), "--model"]
    command = [given.python, HERE / "trl_to_reward.py", given.model, paths["train"], str(rate)]
    command += [str(given.every), str(given.most), str(given.target), *evaluate]
    text, _, _ = run(command, folder)
    return last_line(text)


def reached(curve, target):
    """Steps and seconds to the first evaluation at the target or above."""
    return next(((step, secs) for step, secs, accuracy in curve if accuracy >= target), (None, float("inf")))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", required=True, type=os.path.abspath)
    parser.add_argument("--trainer", required=True, type=os.path.abspath)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--target", type=float, default=0.5)
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--most", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seed", type=int, default=17, help="of the first repeat")
    parser.add_argument("--ours", default="1e-5")
    parser.add_argument("--theirs", default="1e-5")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


def main():
    given = arguments()
    sides = {"ours": (ours, given.ours), "TRL": (theirs, given.theirs)}
    runs = [(side, rate) for side, (_, rates) in sides.items() for rate in rates.split(",") if rate]
    found = {key: [] for key in runs}
    print(f"accuracy {given.target}, evaluated every {given.every} steps, load {os.getloadavg()[0]:.1f}")
    print("| side | rate | seed | steps | seconds | curve |\n| --- | --- | --- | --- | --- | --- |", flush=True)
    for repeat in range(given.repeats):
        for side, rate in runs if repeat % 2 == 0 else reversed(runs):
            seed = given.seed + repeat
            with tempfile.TemporaryDirectory() as folder:
                curve = sides[side][0](given, split(folder, seed), rate, seed, folder)
            steps, secs = reached(curve, given.target)
            found[side, rate].append(secs)
            shown = " ".join(f"{step}:{accuracy:.3f}" for step, _, accuracy in curve)
            print(f"| {side} | {rate} | {seed} | {steps} | {secs:.1f} | {shown} |", flush=True)
    best = {}
    for (side, rate), secs in found.items():
        best[side] = min(best.get(side, (float("inf"), rate)), (statistics.median(secs), rate))
    for side, (secs, rate) in best.items():
        print(f"{side}: {secs:.1f} s at {rate}, median of {given.repeats}")
    if len(best) == 2:
        print(f"TRL's time by ours: {best['TRL'][0] / best['ours'][0]:.2f}")


if __name__ == "__main__":
    main()
