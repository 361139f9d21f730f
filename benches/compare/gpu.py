"""All figures of a GPU in one command, within ten minutes: the self-test, rollouts and updates with their share of
the roofline beside Hugging Face `generate` and a PyTorch update, and a run on GSM8K with its curve.

    python3 benches/compare/gpu.py --trainer target/release/trainer [--backend cuda] [--python PYTHON]
        [--model FOLDER --gsm8k train.jsonl] [--minutes 10] [--shapes smollm2-135m,qwen2.5-0.5b] [--completions 256,1024]
        [--prompt-tokens 512] [--new-tokens 512] [--group 8] [--update-completions 32] [--steps 100] [--out gpu.json]

Every measurement is a process of its own; a row is printed as soon as it is there. When the time is over, what is left
is skipped and named. Both sides make the same number of tokens from random weights of the same shape, ours and theirs
one after the other on the same device. Without --model and --gsm8k there is no run. FILE of --out has all numbers.
"""

import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
# More in a step than the recipe has, and micro-batches that follow the card: the recipe's are those of a laptop.
RUN_SETS = (
    "selection.prompts_per_step=16",
    "update.max_tokens_per_microbatch=auto",
    "eval.samples=1",
    "eval.pass_at_k=[1]",
    "report.prompts=0",
)
COLUMNS = ("what", "ours: first s", "s", "tokens/s", "roofline", "PyTorch: s", "tokens/s", "ratio")


class Clock:
    """The time that is left, and the process that uses it."""

    def __init__(self, minutes):
        self.end = time.monotonic() + 60 * minutes

    def left(self):
        return self.end - time.monotonic()

    def run(self, command, most=None, stop=signal.SIGKILL, echo=False):
        """Standard output; what it said last if it failed, or that the time was over."""
        limit = min(self.left(), most or self.left())
        if limit < 5:
            raise RuntimeError("skipped: the time was over")
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=err, env=environment())
            was_stopped = False
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                was_stopped = True
                process.send_signal(stop)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            out.seek(0), err.seek(0)
            text, words = out.read(), err.read()
        if echo:
            print(text.rstrip(), flush=True)
        if was_stopped and not text:
            raise RuntimeError(f"stopped after {limit:.0f} s")
        if process.returncode != 0 and not was_stopped:
            raise RuntimeError((words.strip() or f"it ended with {process.returncode} and no word").splitlines()[-1])
        return text


def environment():
    return os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def attempt(name, found, work):
    """The result of `work`, kept under its name; its error is kept and printed instead."""
    try:
        found[name] = work()
        return found[name]
    except (RuntimeError, OSError, ValueError) as error:
        found[name] = {"error": str(error)}
        print(f"{name}: {error}", flush=True)
        return None


def ours(given, clock, shape, stages, completions):
    """Header and rows of `trainer bench`, by stage."""
    command = [given.trainer, "bench", "--json", "--shape", shape, "--backend", given.backend]
    command += ["--stages", stages, "--group", given.group]
    command += ["--completions", completions, "--update-completions", completions]
    command += ["--prompt-tokens", given.prompt_tokens, "--new-tokens", given.new_tokens]
    for value in given.set:
        command += ["--set", value]
    rows = [json.loads(line) for line in clock.run(command, given.most).splitlines()]
    if len(rows) < 3:
        raise RuntimeError(f"trainer bench of {shape} was stopped before its end")
    return rows[0], {row["stage"]: row for row in rows[1:]}


def theirs(given, clock, what, shape, completions):
    device = "cuda" if given.backend == "cuda" else "cpu"
    command = [given.python, HERE / "torch_gpu.py", what, shape, completions, given.group]
    command += [given.prompt_tokens, given.new_tokens, device]
    return json.loads(clock.run(command, given.most).strip().splitlines()[-1])


def table_row(*cells):
    print("| " + " | ".join(cells) + " |", flush=True)


def compare(given, clock, found, shape):
    """Rollouts at each number of completions, the update, and what a step of each number would take."""
    table_row(*COLUMNS)
    table_row(*["---"] * len(COLUMNS))
    for completions in given.completions:
        name = f"{shape}, rollouts of {completions}"
        mine = attempt(name, found, lambda: ours(given, clock, shape, "rollout", completions))
        other = attempt(f"{name}, generate", found, lambda: theirs(given, clock, "generate", shape, completions))
        if mine:
            rows = mine[1]
            prefill, decode = rows["prefill"], rows["decode"]
            secs = prefill["median_secs"] + decode["median_secs"]
            show(f"{name}: prefill", prefill, None)
            show(f"{name}: decode", decode, None)
            if given.backend == "cuda" and not decode["num_replayed"]:
                print(f"{name}: no decode step was recorded, `trainer bench` says why", flush=True)
            whole = {
                "first_secs": prefill["first_secs"] + decode["first_secs"],
                "median_secs": secs,
                "units_per_sec": completions * given.new_tokens / secs,
                "roofline_share": (prefill["floor_secs"] + decode["floor_secs"]) / secs,
            }
            show(name, whole, other)
    update(given, clock, found, shape)


def update(given, clock, found, shape):
    name = f"{shape}, update of {given.update_completions}"
    stages = "update,optimizer"
    mine = attempt(name, found, lambda: ours(given, clock, shape, stages, given.update_completions))
    other = attempt(
        f"{name}, PyTorch", found, lambda: theirs(given, clock, "update", shape, given.update_completions)
    )
    if mine:
        header, rows = mine
        show(name, rows["update"], other)
        show(f"{shape}, optimizer", rows["optimizer"], other and {"secs": other["optimizer_secs"]})
        for completions in given.completions:
            whole_step(given, found, shape, completions, rows, other)
        print()
        memory(name, rows["update"], other)
        print(f"{shape}: {json.dumps(header)}\n", flush=True)


def memory(name, row, other):
    """GiB of the device: what was predicted, what the allocator took, what PyTorch's tensors took at most."""
    sizes = (row["predicted_bytes"], row["reserved_bytes"], other and other.get("peak_bytes"))
    predicted, taken, theirs = ("?" if size is None else f"{size / 2**30:.2f}" for size in sizes)
    print(f"{name}: {predicted} GiB predicted, {taken} taken; PyTorch {theirs}", flush=True)


def whole_step(given, found, shape, completions, rows, other):
    """A GRPO step made of its parts: rollouts, micro-batches, optimizer."""
    rollouts = found.get(f"{shape}, rollouts of {completions}")
    generated = found.get(f"{shape}, rollouts of {completions}, generate")
    batches = completions / given.update_completions
    mine = yours = None
    if isinstance(rollouts, tuple):
        parts = [rollouts[1][stage]["median_secs"] for stage in ("prefill", "decode")]
        mine = sum(parts) + batches * rows["update"]["median_secs"] + rows["optimizer"]["median_secs"]
    if other and generated and "secs" in generated:
        yours = generated["secs"] + batches * other["secs"] + other["optimizer_secs"]
    found[f"{shape}, step of {completions}"] = {"ours_secs": mine, "theirs_secs": yours}
    if mine:
        row = {"first_secs": None, "median_secs": mine, "units_per_sec": completions * given.new_tokens / mine}
        pair = yours and {"secs": yours, "tokens": completions * given.new_tokens}
        show(f"{shape}, a step of {completions} from these parts", row, pair)


def show(name, row, other):
    number = lambda value, form: "" if value is None else format(value, form)  # noqa: E731
    rate = other["tokens"] / other["secs"] if other and "tokens" in other else None
    table_row(
        name,
        number(row["first_secs"], ".3f"),
        number(row["median_secs"], ".3f"),
        "" if row.get("stage") == "optimizer" else number(row["units_per_sec"], ".0f"),
        number(row.get("roofline_share"), ".1%"),
        number(other and other["secs"], ".3f"),
        number(rate, ".0f"),
        number(other and other["secs"] / row["median_secs"], ".2f"),
    )


def gsm8k(given, clock):
    """Curve of a run: reward and seconds per step, accuracy where it was measured."""
    out = pathlib.Path(tempfile.mkdtemp(), "run")
    command = [given.trainer, "--recipe", "gsm8k", "--model", given.model, "--data", f"gsm8k:{given.gsm8k}"]
    command += ["--backend", given.backend, "--steps", given.steps, "--out", out, "--quiet"]
    for value in (*RUN_SETS, *given.set):
        command += ["--set", value]
    # A run prints nothing with --quiet; stopped, it ends its step and saves.
    attempt("run", {}, lambda: clock.run(command, stop=signal.SIGINT))
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    curve = [(step["step"], step["reward_mean"], step["timing"]["step_secs"], step["eval_accuracy"]) for step in steps]
    # Null in the row of an evaluation before the first step.
    rewards = ", ".join(f"{reward:.2f}" for _, reward, _, _ in curve if reward is not None)
    accuracy = ", ".join(f"{value:.3f} at step {step}" for step, _, _, value in curve if value is not None)
    secs = [secs for _, reward, secs, _ in curve if reward is not None and secs is not None]
    print(f"GSM8K: {len(secs)} steps, {statistics.median(secs):.2f} s a step in the median, accuracy {accuracy}")
    print(f"reward per step: {rewards}", flush=True)
    return {"run": str(out), "steps": steps}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--trainer", required=True, type=os.path.abspath)
    parser.add_argument("--backend", default="cuda")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--most", type=float, default=120, help="seconds of one measurement")
    parser.add_argument("--shapes", default="smollm2-135m,qwen2.5-0.5b")
    parser.add_argument("--completions", default="256,1024")
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=512)
    parser.add_argument("--update-completions", type=int, default=32)
    parser.add_argument("--model", type=os.path.abspath, help="a model folder, for the run")
    parser.add_argument("--gsm8k", type=os.path.abspath, help="GSM8K's train.jsonl, for the run")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--set", action="append", default=[], help="a key of ours")
    parser.add_argument("--out", default="gpu.json")
    given = parser.parse_args()
    given.shapes = given.shapes.split(",")
    given.completions = [int(word) for word in given.completions.split(",")]
    if bool(given.model) != bool(given.gsm8k):
        parser.error("the run needs both --model and --gsm8k")
    if not os.access(given.trainer, os.X_OK):
        parser.error(f"no program at {given.trainer}")
    return given


def main():
    given, found = arguments(), {}
    clock = Clock(given.minutes)
    attempt("doctor", found, lambda: clock.run([given.trainer, "doctor"], 30, echo=True))
    test = [given.trainer, "doctor", "--self-test", "--backend", given.backend]
    attempt("self-test", found, lambda: clock.run(test, 180, echo=True))
    for shape in given.shapes:
        compare(given, clock, found, shape)
    if given.model:
        attempt("gsm8k", found, lambda: gsm8k(given, clock))
    pathlib.Path(given.out).write_text(json.dumps(found, indent=1))
    print(f"all numbers: {given.out}; {60 * given.minutes - clock.left():.0f} s")


if __name__ == "__main__":
    main()
