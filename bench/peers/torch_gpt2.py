"""Times PyTorch (HuggingFace's GPT2LMHeadModel) on the works of model_bench, on the CPU.

Each work runs in a process of its own, so that its peak memory is its own. Weights are random. The first run of a work
is not timed: it warms up, and with --compile it compiles.

  torch_gpt2.py --out peer.json                          every work
  torch_gpt2.py --work forward/1x16 --compile --out p.json
  torch_gpt2.py --list
"""

import argparse
import json
import subprocess
import sys
import time

import report

SMALL = dict(n_layer=6, n_embd=256, n_head=8, vocab_size=5000, n_positions=256)
DEFAULT_MODEL = SMALL | dict(n_head=4, vocab_size=6000)

# Names as in model_bench.cpp; what to do, the model's shape, prompts, tokens of each.
WORKS = {
    "forward/1x16": ("forward", {}, 1, 16),
    "forward/8x64": ("forward", {}, 8, 64),
    "forward/4x256": ("forward", {}, 4, 256),
    "forward/1x1024": ("forward", {}, 1, 1024),
    "train/gpt2-small/4x256": ("train", {}, 4, 256),
    "train/small/16x128": ("train", SMALL, 16, 128),
    "train/default-model/8x256": ("train", DEFAULT_MODEL, 8, 256),
    "generate/gpt2-small": ("generate", {}, 1, 8),
}
NEW_TOKENS = 128  # that generate makes


def make_work(kind, shape, prompts, tokens, compiled):
    """A function of no arguments that does the work once."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(attn_pdrop=0, embd_pdrop=0, resid_pdrop=0, bos_token_id=None, eos_token_id=None, **shape)
    model = GPT2LMHeadModel(config)
    x = torch.randint(0, config.vocab_size, (prompts, tokens))
    run = torch.compile(model) if compiled else model

    def forward():
        with torch.no_grad():
            return run(x, use_cache=False).logits

    def train():
        optimiser.zero_grad(set_to_none=True)
        run(x, labels=x, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    def generate():
        text = run.generate(x, attention_mask=torch.ones_like(x), max_new_tokens=NEW_TOKENS, do_sample=False)
        assert text.shape[1] == tokens + NEW_TOKENS, text.shape

    if kind == "train":
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    else:
        model.eval()
    return {"forward": forward, "train": train, "generate": generate}[kind]


def measure(work, compiled, threads, repetitions):
    """Runs in the process of this work."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    f = make_work(*WORKS[work], compiled)
    f()
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        f()
        seconds.append(time.perf_counter() - start)
    peer = "torch compile" if compiled else "torch eager"
    return report.entry(work, peer, torch.__version__, threads, seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", action="append", choices=list(WORKS), help="may be repeated; all of them without it")
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", help="the JSON file to write; stdout without it")
    parser.add_argument("--list", action="store_true", help="print the names of the works")
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()

    if arguments.list:
        print("\n".join(WORKS))
        return
    works = arguments.work or list(WORKS)
    if arguments.in_this_process:
        measured = [measure(work, arguments.compile, arguments.threads, arguments.repetitions) for work in works]
    else:
        measured = []
        for work in works:
            command = [sys.executable, __file__, "--in-this-process", "--work", work]
            command += ["--threads", str(arguments.threads), "--repetitions", str(arguments.repetitions)]
            command += ["--compile"] if arguments.compile else []
            child = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if child.returncode != 0:
                sys.exit(f"error: {work} failed, see above")
            measured += json.loads(child.stdout)
    report.write(measured, arguments.out)


if __name__ == "__main__":
    main()
