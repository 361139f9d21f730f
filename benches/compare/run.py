"""Ours beside PyTorch and TRL on the same machine, alternately: medians, ratios and their spread.

    python3 benches/compare/run.py --model FOLDER --trainer target/release/trainer
        [--gsm8k train.jsonl] [--python PYTHON] [--threads 2] [--repeats 5] [--only decode,step_add1]

Needs `cargo build --release -p trainer`, a SmolLM2-135M-Instruct folder in f32, and for the
other side a Python with torch, transformers and, for the steps, trl. Every repetition starts both processes
anew, ours first and theirs first in turn; each leaves its first run out as warm-up. The ratio is theirs by
ours, formed per pair: above 1 ours is faster or smaller. What cannot run is skipped with its reason.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
STAGES = ("decode", "prefill", "update", "optimizer")
STEPS = ("step_add1", "step_sum2", "step_half", "step_gsm8k")
ITEMS = (*STAGES, *STEPS, "startup")
STEP_SETS = (
    "selection.prompts_per_step=4",
    "rollout.max_slots=32",
    "eval.at_start=false",
    "eval.at_end=false",
    "checkpoint.every=none",
    "report.prompts=0",
)
# Every row goes through the backward pass, as in TRL.
EVERY_ROW = ("loss.entropy_coef=1e-9",)
BOX_SETS = (
    "prompt.few_shot=[]",
    "prompt.instruction= Put the final answer in \\boxed{}.",
    "rollout.max_new_tokens=64",
    "reward.format=box",
    "data.answer_format=box",
)
# A step of these has two groups that the model answers rightly now and then, and two that it cannot.
HALF = (
    ("What is 10 + 1?", "11"),
    ("Is it 12 or 13?", "12"),
    ("What is 32 + 43?", "1000003"),
    ("What is 59 + 13?", "1000003"),
)
HALF_SETS = (
    *BOX_SETS,
    "data.held_out_size=0",
    "eval.every=none",
    'reward.components=[{kind="correct",weight=1.0}]',
)


def run(command, cwd):
    """Standard output, wall seconds and peak bytes of a process; what it said if it failed."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, cwd=cwd, env=environment())
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        text, words = out.read().decode(), err.read().decode()
    if process.returncode != 0:
        raise RuntimeError((words.strip() or text.strip() or "no output").splitlines()[-1])
    return text, wall, usage.ru_maxrss * 1024


def environment():
    return os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def last_line(text):
    return json.loads(text.strip().splitlines()[-1])


def ours(item, given, folder):
    """Seconds and peak bytes of one repetition."""
    threads = str(given.threads)
    if item in STAGES:
        return stage(item, given, folder)
    if item == "startup":
        problem = pathlib.Path(folder, "one.jsonl")
        problem.write_text(json.dumps({"prompt": "What is 3 + 4?"}) + "\n")
        command = [given.trainer, "generate", "--model", given.model, "--input", problem, "--chat"]
        command += ["--temperature", "0", "--max-new-tokens", "1", "--threads", threads]
        _, wall, peak = run(command, folder)
        return wall, peak
    return step(item, given, folder)


# `trainer bench` of the shapes of torch_stage.py: 32 rows from 240 to 271 tokens of context, 256 in the
# middle; eight prompts of 128 tokens; eight rows of 256 tokens that share nothing.
STAGE_ARGS = {
    "decode": "--stages rollout --completions 32 --group 8 --prompt-tokens 240 --new-tokens 32",
    # No weights are copied for a decode that does not follow.
    "prefill": "--stages rollout --completions 8 --group 1 --prompt-tokens 128 --new-tokens 1 "
    "--set rollout.copy_weights=false",
    "update": "--stages update --update-completions 8 --group 1 --completions 8 --prompt-tokens 1 --new-tokens 255",
}
STAGE_ARGS["optimizer"] = STAGE_ARGS["update"].replace("update ", "update,optimizer ", 1)


def stage(item, given, folder):
    """Seconds (of a decode: of one step) and peak bytes of a stage after its warm-up."""
    command = [given.trainer, "bench", "--model", given.model, "--threads", str(given.threads)]
    text, _, peak = run([*command, "--no-peaks", "--json", *STAGE_ARGS[item].split()], folder)
    found = next(row for row in map(json.loads, text.splitlines()) if row.get("stage") == item)
    return found["median_secs"] / found["num_passes"], peak


def step(item, given, folder, seed=17):
    """Seconds of the last of two steps; of `step_half`, by the first seed that leaves half of its groups mixed."""
    out = tempfile.mkdtemp(dir=folder)
    command = [given.trainer, "--recipe", "smollm2-add1", "--model", given.model, "--quiet", "--seed", str(seed)]
    command += ["--threads", str(given.threads), "--steps", "2", "--out", out]
    for value in STEP_SETS + step_sets(item, given, folder):
        command += ["--set", value]
    _, _, peak = run(command, folder)
    metrics = json.loads(pathlib.Path(out, "metrics.jsonl").read_text().splitlines()[-1])
    if item == "step_half" and metrics["degenerate_group_frac"] != 0.5:
        if seed == 37:
            raise RuntimeError("no seed from 17 to 37 leaves two of four groups mixed")
        return step(item, given, folder, seed + 1)
    return metrics["timing"]["step_secs"], peak


def step_sets(item, given, folder):
    """What a step sets beside the settings of all steps."""
    return {
        "step_add1": EVERY_ROW,
        "step_sum2": (*EVERY_ROW, *BOX_SETS, "data.train=task:addition?digits=2&style=question"),
        "step_half": (*HALF_SETS, f"data.train={half(folder)}"),
        "step_gsm8k": (*EVERY_ROW, *BOX_SETS, f"data.train=gsm8k:{given.gsm8k}"),
    }[item]


def half(folder):
    """The file of the problems of `step_half`."""
    path = pathlib.Path(folder, "half.jsonl")
    rows = ({"problem": problem, "answer": answer} for problem, answer in HALF)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def theirs(item, given, folder):
    if item in STEPS:
        task = item.removeprefix("step_")
        task += {"step_gsm8k": f":{given.gsm8k}", "step_half": f":{half(folder)}"}.get(item, "")
        command = [given.python, HERE / "trl_step.py", given.model, "2", task]
        text, _, peak = run(command, folder)
        return last_line(text)[0], peak
    command = [given.python, HERE / "torch_stage.py", item, given.model, str(given.threads), "1"]
    text, wall, peak = run(command, folder)
    return (wall if item == "startup" else last_line(text)[0]), peak


def missing(item, given):
    """Why an item cannot run; nothing if it can."""
    if not pathlib.Path(given.model, "config.json").is_file():
        return f"no model folder at {given.model}"
    if item == "step_gsm8k" and not given.gsm8k:
        return "needs --gsm8k train.jsonl"
    if not os.access(given.trainer, os.X_OK):
        return f"no program at {given.trainer}: cargo build --release -p trainer"
    modules = "torch, transformers" + (", trl, datasets" if item in STEPS else "")
    tried = subprocess.run([given.python, "-c", f"import {modules}"], capture_output=True, check=False)
    return None if tried.returncode == 0 else f"{given.python} cannot import {modules}"


def compare(item, given, folder):
    found = {"ours": [], "theirs": []}
    sides = [("ours", ours), ("theirs", theirs)]
    for repeat in range(given.repeats):
        for name, side in sides if repeat % 2 == 0 else reversed(sides):
            found[name].append(side(item, given, folder))
    show(item, "s", [[secs for secs, _ in found[name]] for name in ("ours", "theirs")])
    gib = [[peak / 2**30 for _, peak in found[name]] for name in ("ours", "theirs")]
    show(f"{item}, peak", "GiB", gib)


def show(name, unit, values):
    middle = [statistics.median(side) for side in values]
    ratios = [b / a for a, b in zip(*values, strict=True)]
    print(
        f"| {name} | {middle[0]:.3f} {unit} | {middle[1]:.3f} {unit} | {statistics.median(ratios):.2f} "
        f"| {min(ratios):.2f} to {max(ratios):.2f} |",
        flush=True,
    )


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", required=True, type=os.path.abspath)
    parser.add_argument("--trainer", required=True, type=os.path.abspath)
    parser.add_argument("--gsm8k", type=os.path.abspath, help="GSM8K's train.jsonl, for step_gsm8k")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default=",".join(ITEMS))
    given = parser.parse_args()
    given.only = given.only.split(",")
    unknown = [item for item in given.only if item not in ITEMS]
    if unknown:
        parser.error(f"no item is called {unknown[0]}; there are {', '.join(ITEMS)}")
    if given.repeats < 1:
        parser.error("--repeats is at least 1")
    return given


def main():
    given = arguments()
    print(f"{given.repeats} pairs, {given.threads} threads, load {os.getloadavg()[0]:.1f}")
    print("| item | ours | PyTorch or TRL | ratio | smallest to largest |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for item in given.only:
        reason = missing(item, given)
        if reason:
            print(f"| {item} | skipped: {reason} | | | |", flush=True)
            continue
        try:
            with tempfile.TemporaryDirectory() as folder:
                compare(item, given, folder)
        except RuntimeError as error:
            print(f"| {item} | failed: {error} | | | |", flush=True)


if __name__ == "__main__":
    main()
