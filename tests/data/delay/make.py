#!/usr/bin/env python3
"""Makes the model of this folder: an attention-only GPT-2 of one layer that says what it saw three tokens before.

  python3 tests/data/delay/make.py build/release/apps/vitrine

A text is three random tokens, again and again: what comes next is the token two before the last. It writes
config.json and model.safetensors (trained by `vitrine train`, half a minute). The MLPs begin at zero, where no gradient moves their weights: they
stay a constant.
"""
import json
import math
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile

VOCABULARY, WIDTH, LAYERS, HEADS, CONTEXT = 24, 48, 1, 2, 12
PERIOD = 3
DOCUMENTS, STEPS, DOCUMENTS_PER_BATCH = 40000, 1500, 64


def text(draw):
    block = draw.sample(range(VOCABULARY), PERIOD)
    return [block[i % PERIOD] for i in range(CONTEXT)]


def write_weights(path, draw):
    tensors = {}

    def drawn(name, *shape, scale=0.1):
        tensors[name] = (shape, [draw.gauss(0, scale) for _ in range(math.prod(shape))])

    def constant(name, shape, value):
        tensors[name] = (shape, [value] * math.prod(shape))

    d = WIDTH
    drawn("wte.weight", VOCABULARY, d)
    drawn("wpe.weight", CONTEXT, d)
    for layer in range(LAYERS):
        block = f"h.{layer}."
        for norm in ("ln_1", "ln_2"):
            constant(block + norm + ".weight", (d,), 1.0)
            constant(block + norm + ".bias", (d,), 0.0)
        for name, rows, columns in (("attn.c_attn", d, 3 * d), ("attn.c_proj", d, d)):
            drawn(block + name + ".weight", rows, columns)
            constant(block + name + ".bias", (columns,), 0.0)
        for name, rows, columns in (("mlp.c_fc", d, 1), ("mlp.c_proj", 1, d)):
            constant(block + name + ".weight", (rows, columns), 0.0)
            constant(block + name + ".bias", (columns,), 0.0)
    constant("ln_f.weight", (d,), 1.0)
    constant("ln_f.bias", (d,), 0.0)

    header, offset = {}, 0
    for name, (shape, values) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + 4 * len(values)]}
        offset += 4 * len(values)
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for _, values in tensors.values():
            file.write(struct.pack(f"<{len(values)}f", *values))


def main(vitrine):
    here, draw = pathlib.Path(__file__).parent, random.Random(1)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        new, run = scratch / "new", scratch / "run"
        new.mkdir()
        config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": VOCABULARY,
                  "n_positions": CONTEXT, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "n_inner": 1,
                  "activation_function": "gelu_new", "layer_norm_epsilon": 1e-05,
                  "tie_word_embeddings": True}
        (new / "config.json").write_text(json.dumps(config))
        write_weights(new / "model.safetensors", draw)
        with open(scratch / "texts.jsonl", "w") as file:
            for _ in range(DOCUMENTS):
                file.write(json.dumps({"tokens": text(draw)}) + "\n")
        subprocess.run([vitrine, "train", "--from", new, "--data", scratch / "texts.jsonl",
                        "--batch-tokens", str(DOCUMENTS_PER_BATCH * (CONTEXT - 1)), "--steps", str(STEPS),
                        "--rate", "0.003", "--beta2", "0.99", "--seed", "1", "--store", "f16",
                        "--evaluate-every", "500", "--out", run], check=True)
        for name in ("config.json", "model.safetensors"):
            shutil.copyfile(run / name, here / name)


main(sys.argv[1])
