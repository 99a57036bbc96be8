#!/usr/bin/env python3
"""Makes the model of this folder: a GPT-2 that sorts letters, by ids, without a tokenizer.

  python3 tests/data/sorting/make.py build/release/apps/vitrine

A text is <start>, five different letters, <sep>, and the same letters in order. It writes config.json
and model.safetensors (trained by `vitrine train`, a minute or two), vocabulary.txt, the names of the
ids, and prompts.jsonl: prompts that end at each of the sorted positions, with what comes next there.
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

START, LETTERS, SEP, LENGTH = 0, range(1, 15), 15, 5
VOCABULARY, WIDTH, LAYERS, HEADS, CONTEXT = 16, 32, 2, 4, 2 + 2 * LENGTH
DOCUMENTS, STEPS, DOCUMENTS_PER_BATCH, PROMPTS = 20000, 3000, 64, 60


def text(draw):
    letters = draw.sample(LETTERS, LENGTH)
    return [START, *letters, SEP, *sorted(letters)]


def write_json_lines(path, objects):
    path.write_text("".join(json.dumps(o) + "\n" for o in objects))


def write_weights(path, draw):
    """New weights as GPT-2 draws them, wider because the model is narrow."""
    tensors = {}

    def drawn(name, *shape, scale=0.1):
        tensors[name] = (shape, [draw.gauss(0, scale) for _ in range(math.prod(shape))])

    def constant(name, size, value):
        tensors[name] = ((size,), [value] * size)

    d = WIDTH
    drawn("wte.weight", VOCABULARY, d)
    drawn("wpe.weight", CONTEXT, d)
    for layer in range(LAYERS):
        block = f"h.{layer}."
        for norm in ("ln_1", "ln_2"):
            constant(block + norm + ".weight", d, 1.0)
            constant(block + norm + ".bias", d, 0.0)
        for name, rows, columns in (("attn.c_attn", d, 3 * d), ("attn.c_proj", d, d),
                                    ("mlp.c_fc", d, 4 * d), ("mlp.c_proj", 4 * d, d)):
            drawn(block + name + ".weight", rows, columns)
            constant(block + name + ".bias", columns, 0.0)
    constant("ln_f.weight", d, 1.0)
    constant("ln_f.bias", d, 0.0)

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


def prompts(draw):
    for i in range(PROMPTS):
        whole, at = text(draw), i % LENGTH
        end = 2 + LENGTH + at
        yield {"prompt_tokens": whole[:end], "answer_token": whole[end],
               "wrong_token": [t for t in whole[1:1 + LENGTH] if t != whole[end]], "place": at}


def main(vitrine):
    here, draw = pathlib.Path(__file__).parent, random.Random(1)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        new, run = scratch / "new", scratch / "run"
        new.mkdir()
        config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": VOCABULARY,
                  "n_positions": CONTEXT, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS,
                  "activation_function": "gelu_new", "layer_norm_epsilon": 1e-05,
                  "tie_word_embeddings": True}
        (new / "config.json").write_text(json.dumps(config))
        write_weights(new / "model.safetensors", draw)
        write_json_lines(scratch / "texts.jsonl", ({"tokens": text(draw)} for _ in range(DOCUMENTS)))
        subprocess.run([vitrine, "train", "--from", new, "--data", scratch / "texts.jsonl",
                        "--batch-tokens", str(DOCUMENTS_PER_BATCH * (CONTEXT - 1)), "--steps", str(STEPS),
                        "--rate", "0.003", "--beta2", "0.99", "--seed", "1", "--store", "f16",
                        "--evaluate-every", "1000", "--out", run], check=True)
        for name in ("config.json", "model.safetensors"):
            shutil.copyfile(run / name, here / name)
    write_json_lines(here / "prompts.jsonl", prompts(draw))
    (here / "vocabulary.txt").write_text(
        "".join(name + "\n" for name in ["<start>", *"abcdefghijklmn", "<sep>"]))


main(sys.argv[1])
