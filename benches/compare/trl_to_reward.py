"""TRL's GRPOTrainer on one-digit sums until a held-out accuracy: seconds of training, evaluations left out.

    command   python3 benches/compare/trl_to_reward.py FOLDER TRAIN.jsonl LEARNING_RATE EVERY MOST TARGET EVALUATE...
    versions  as trl_step.py, whose settings these are

Every EVERY steps the policy is saved and the command EVALUATE, its folder appended, prints an object with
`accuracy.value`; training ends there once it is TARGET or more, at latest after MOST steps. The last line
printed is the list of [step, seconds of training so far, accuracy].
"""

import json
import subprocess
import sys
import tempfile
import time

from transformers import TrainerCallback
from trl_step import add1_chat, trainer


class Watch(TrainerCallback):
    def __init__(self, every, target, evaluate):
        self.every, self.target, self.evaluate = every, target, evaluate
        self.trained, self.curve = 0.0, []

    def on_step_begin(self, *_, **__):
        self.begun = time.perf_counter()

    def on_step_end(self, args, state, control, model=None, processing_class=None, **__):
        self.trained += time.perf_counter() - self.begun
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            with tempfile.TemporaryDirectory() as folder:
                model.save_pretrained(folder)
                processing_class.save_pretrained(folder)
                said = subprocess.run([*self.evaluate, folder], capture_output=True, text=True, check=True)
            accuracy = json.loads(said.stdout)["accuracy"]["value"]
            self.curve.append([state.global_step, self.trained, accuracy])
            print(json.dumps(self.curve[-1]), flush=True)
            control.should_training_stop |= accuracy >= self.target


def main():
    folder, train, rate, every, most, target, *evaluate = sys.argv[1:]
    with open(train, encoding="utf-8") as file:
        sums = [json.loads(line)["sum"] for line in file]
    problems = [add1_chat(a, b) for a, b in sums]
    watch = Watch(int(every), float(target), evaluate)
    # The sampler repeats a data set until the last step.
    trainer(folder, problems, watch, int(most), 8, float(rate)).train()
    print(json.dumps(watch.curve))


if __name__ == "__main__":
    main()
