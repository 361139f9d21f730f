"""Hugging Face `generate`, or the update of a GRPO step in PyTorch, on a shape with random weights: JSON.

    command   python3 benches/compare/torch_gpu.py generate|update SHAPE COMPLETIONS GROUP PROMPT_TOKENS NEW_TOKENS DEVICE
    versions  torch 2.11, transformers 5.17 (any that know Llama and Qwen2)

On `cuda` in bf16 (weights of `generate`; autocast over f32 weights in `update`), on `cpu` in f32. `generate` samples at
temperature 1 from the whole vocabulary, no token ends a completion, every copy of a prompt is run; a call of
8 new tokens goes before it as warm-up. `update` is one micro-batch of a policy gradient with importance ratios and a
clip, forwards and backwards, and then clipping and fused AdamW, each timed; the first of three is left out.
"""

import contextlib
import json
import statistics
import sys
import time

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

LLAMA = {"model_type": LlamaConfig, "rms_norm_eps": 1e-5, "max_position_embeddings": 2048}
QWEN2 = {"model_type": Qwen2Config, "rms_norm_eps": 1e-6, "max_position_embeddings": 32768}
# Vocabulary, width, inner width, blocks, query heads, key heads: those of `trainer bench --shape`.
SHAPES = {
    "tiny": (LLAMA, 64, 128, 384, 4, 4, 2),
    "smollm2-135m": (LLAMA, 49152, 576, 1536, 30, 9, 3),
    "qwen2.5-0.5b": (QWEN2, 151936, 896, 4864, 24, 14, 2),
}


def model_of(shape, device, dtype):
    family, vocab, width, inner, layers, heads, key_heads = SHAPES[shape]
    values = dict(family)
    config = values.pop("model_type")(
        vocab_size=vocab,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        **values,
    )
    torch.manual_seed(17)
    return AutoModelForCausalLM.from_config(config, dtype=dtype).to(device)


def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


def timed(device, work):
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def generate(shape, load, device):
    completions, group, prompt, new = load
    model = model_of(shape, device, torch.bfloat16 if device == "cuda" else torch.float32).eval()
    prompts = torch.randint(1, model.config.vocab_size, (completions // group, prompt), device=device)
    inputs = prompts.repeat_interleave(group, dim=0)

    def call(count):
        with torch.inference_mode():
            out = model.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                min_new_tokens=count,
                max_new_tokens=count,
                eos_token_id=None,
                pad_token_id=0,
            )
        assert out.shape == (completions, prompt + count), out.shape

    call(min(8, new))
    secs = timed(device, lambda: call(new))
    return {"secs": secs, "tokens": completions * new}


def loss_of(model, rows, new, old, advantages):
    logits = model(rows, use_cache=False, logits_to_keep=new + 1).logits[:, :-1].float()
    logprobs = torch.log_softmax(logits, -1).gather(-1, rows[:, -new:, None]).squeeze(-1)
    ratio = (logprobs - (logprobs.detach() if old is None else old)).exp()
    clipped = ratio.clamp(0.8, 1.2)
    return -torch.minimum(ratio * advantages, clipped * advantages).mean()


def update(shape, load, device):
    completions, group, prompt, new = load
    model = model_of(shape, device, torch.float32).train()
    rows = torch.randint(1, model.config.vocab_size, (completions, prompt + new), device=device)
    rows[:, :prompt] = rows[::group, :prompt].repeat_interleave(group, dim=0)
    advantages = torch.linspace(-1.0, 1.0, completions, device=device)[:, None]
    rule = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.0, fused=True)
    half = torch.autocast("cuda", torch.bfloat16) if device == "cuda" else contextlib.nullcontext()

    def gradients():
        with half:
            loss = loss_of(model, rows, new, None, advantages)
        loss.backward()

    def step():
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rule.step()
        rule.zero_grad(set_to_none=True)

    found = [(timed(device, gradients), timed(device, step)) for _ in range(3)][1:]
    grads, steps = (statistics.median(pair[side] for pair in found) for side in (0, 1))
    return {"secs": grads, "optimizer_secs": steps, "tokens": completions * new}


def main():
    what, shape, device = sys.argv[1], sys.argv[2], sys.argv[7]
    load = tuple(int(word) for word in sys.argv[3:7])
    found = {"generate": generate, "update": update}[what](shape, load, device)
    if device == "cuda":
        found["peak_bytes"] = torch.cuda.max_memory_allocated()
        found["device"] = torch.cuda.get_device_name()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
