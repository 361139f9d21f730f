"""TRL's GRPOTrainer on one of four tasks: seconds and CPU seconds of a step, peak memory.

`add1`: one-digit sums after three worked chat turns, the bare number as answer, at most 8 new tokens: what
`trainer --recipe smollm2-add1` does. `sum2`: two-digit sums without examples, the answer in a box, at most
64 new tokens. `half:FILE`: problems and answers of a file, the answer in a box, at most 64 new tokens; `gsm8k:FILE`:
the same of GSM8K's. f32 on the CPU, no KL term, one update per step. The first step is warm-up and left out.

    command   python3 benches/compare/trl_step.py FOLDER [STEPS] [add1|sum2|half:FILE|gsm8k:FILE]
    versions  Python 3.11, torch 2.15.0 (CPU), transformers 5.23.0, trl 1.16
"""

import json
import random
import re
import resource
import statistics
import sys
import time

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

PROMPTS, GROUP, THREADS = 4, 8, 2
SHOTS = [("What is 3 + 4?", "7"), ("What is 25 - 12?", "13"), ("What is 6 * 2?", "12")]


def add1(rng):
    return add1_chat(rng.randint(0, 9), rng.randint(0, 9))


def add1_chat(a, b):
    turns = [
        {"role": role, "content": text}
        for shot in SHOTS
        for role, text in zip(("user", "assistant"), shot, strict=True)
    ]
    turns.append({"role": "user", "content": f"What is {a} + {b}?"})
    return {"prompt": turns, "answer": str(a + b)}


def sum2(rng):
    a, b = rng.randint(10, 99), rng.randint(10, 99)
    text = f"What is {a} + {b}? Put the final answer in \\boxed{{}}."
    return {"prompt": [{"role": "user", "content": text}], "answer": str(a + b)}


def problems_of(path, key):
    """Problems of a file of records, in an order drawn by the generator that is given; `key` holds their text."""
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]

    def problem(rng):
        row = rng.choice(rows)
        text = f"{row[key]} Put the final answer in \\boxed{{}}."
        answer = row["answer"].rsplit("####", 1)[-1].strip().replace(",", "")
        return {"prompt": [{"role": "user", "content": text}], "answer": answer}

    return problem


def is_right(completions, answer, **_):
    """The bare number, or the last box."""
    texts = (completion[0]["content"] for completion in completions)
    said = ((re.findall(r"\\boxed\{\s*(-?\d+)\s*\}", text) or [text.strip()])[-1] for text in texts)
    return [float(text == right) for text, right in zip(said, answer, strict=True)]


class Clock(TrainerCallback):
    def __init__(self):
        self.marks = []

    def on_log(self, *_, **__):
        self.marks.append((time.perf_counter(), time.process_time()))


def trainer(folder, problems, callback, steps, new_tokens, learning_rate=1e-5):
    """Steps of 4 prompts x 8 completions on policy, at a constant learning rate."""
    torch.set_num_threads(THREADS)
    config = GRPOConfig(
        output_dir="trl_step",
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=PROMPTS * GROUP,
        num_generations=GROUP,
        max_completion_length=new_tokens,
        learning_rate=learning_rate,
        lr_scheduler_type="constant",
        gradient_checkpointing=False,
        beta=0.0,
        max_steps=steps,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        seed=17,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    return GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        reward_funcs=is_right,
        args=config,
        train_dataset=Dataset.from_list(problems),
        processing_class=AutoTokenizer.from_pretrained(folder, padding_side="left"),
        callbacks=[callback],
    )


def main():
    folder, steps = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 4
    task, _, path = (sys.argv[3] if len(sys.argv) > 3 else "add1").partition(":")
    keys = {"half": "problem", "gsm8k": "question"}
    problem = problems_of(path, keys[task]) if task in keys else {"add1": add1, "sum2": sum2}[task]
    new_tokens = 8 if task == "add1" else 64
    rng = random.Random(17)
    clock = Clock()
    problems = [problem(rng) for _ in range(1024)]
    trainer(folder, problems, clock, steps, new_tokens).train()
    # One mark per step, then one at the end of training.
    marks = clock.marks[:steps]
    pairs = list(zip(marks, marks[1:], strict=False))
    seconds = [after[0] - before[0] for before, after in pairs]
    wall = statistics.median(seconds)
    cpu = statistics.median(after[1] - before[1] for before, after in pairs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"TRL: {wall:.1f} s a step, {cpu:.1f} CPU seconds, peak {peak:.1f} GiB, {len(pairs)} steps")
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
