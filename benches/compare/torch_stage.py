"""One stage of a Hugging Face model in PyTorch: seconds of each repetition as a JSON list.

    command   python3 benches/compare/torch_stage.py decode|prefill|update|optimizer|startup FOLDER THREADS REPEATS
    versions  Python 3.11, torch 2.15.0 (CPU), transformers 5.23.0

f32, one warm-up left out. The shapes are those of run.py. `decode` is the bare forward
of one token for 32 rows with 256 tokens of context, without sampling; `startup` loads the model and
generates one token, timed by the caller.
"""

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROWS = 8


def timed(work, repeats, prepare=lambda: None):
    found = []
    for _ in range(repeats + 1):
        prepare()
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return found[1:]


def tokens(model, rows, width):
    generator = torch.Generator().manual_seed(17)
    return torch.randint(20, model.config.vocab_size, (rows, width), generator=generator)


def decode(model, repeats):
    context, step = tokens(model, 32, 256), tokens(model, 32, 1)
    with torch.inference_mode():
        state = {"cache": model(context, use_cache=True, logits_to_keep=1).past_key_values}

        def work():
            model(step, past_key_values=state["cache"], use_cache=True)

        def prepare():
            # A negative length is the number of tokens to take off.
            if state["cache"].get_seq_length() > 256:
                state["cache"].crop(-1)

        return timed(work, repeats, prepare)


def prefill(model, repeats):
    prompts = tokens(model, ROWS, 128)
    with torch.inference_mode():
        return timed(lambda: model(prompts, use_cache=True, logits_to_keep=1), repeats)


def gradients(model, rows):
    logits = model(rows, use_cache=False).logits[:, :-1].float()
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).backward()


def update(model, repeats):
    rows = tokens(model, ROWS, 256)
    return timed(lambda: gradients(model, rows), repeats, lambda: model.zero_grad(set_to_none=True))


def optimizer(model, repeats):
    rows = tokens(model, ROWS, 256)
    rule = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.0, fused=True)

    def prepare():
        model.zero_grad(set_to_none=True)
        gradients(model, rows)

    def work():
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rule.step()

    return timed(work, repeats, prepare)


def startup(model, folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turns = [{"role": "user", "content": "What is 3 + 4?"}]
    encoded = tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        model.generate(**encoded, max_new_tokens=1, do_sample=False)
    return [0.0]


def main():
    stage, folder, threads, repeats = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if stage == "startup":
        print(json.dumps(startup(model, folder)))
        return
    stages = {"decode": decode, "prefill": prefill, "update": update, "optimizer": optimizer}
    print(json.dumps(stages[stage](model, repeats)))


if __name__ == "__main__":
    main()
