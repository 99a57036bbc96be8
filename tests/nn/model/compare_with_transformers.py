#!/usr/bin/env python3
"""A model folder in Vitrine and in transformers: logits, residual stream and attention patterns of random prompts.

    python3 tests/nn/model/compare_with_transformers.py build/release/apps/vitrine FOLDER

Needs torch, transformers and safetensors. Weights are read as transformers reads them (model.safetensors or
pytorch_model.bin) and computed with in f32. Ends with exit code 1 where a logit differs by more than 1e-3, or anything else by
more than 1e-5 of its largest value.
"""
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM


def vitrine(program, folder, ids):
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as out:
        subprocess.run([program, "cache", "--model", folder, "--tokens", ",".join(map(str, ids)), "--sites",
                        "*.hook_resid_pre,*.hook_pattern", "--out", out.name, "--quiet"],
                       check=True, stdout=subprocess.DEVNULL)
        return load_file(out.name)


def main(program, folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    config, wrong = model.config, 0
    for seed in range(3):
        ids = np.random.default_rng(seed).integers(0, config.vocab_size, 12 + 7 * seed).tolist()
        ours = vitrine(program, folder, ids)
        with torch.no_grad():
            theirs = model(torch.tensor([ids]), output_hidden_states=True, output_attentions=True)
        pairs = [("logits", ours["logits"], theirs.logits)]
        for layer in range(config.num_hidden_layers):
            pairs.append((f"blocks.{layer}.hook_resid_pre", None, theirs.hidden_states[layer]))
            pairs.append((f"blocks.{layer}.attn.hook_pattern", None, theirs.attentions[layer]))
        worst = {}
        for name, got, want in pairs:
            got, want = ours[name] if got is None else got, want.numpy()
            kind, off = name.split(".")[-1], np.abs(got - want).max()
            share = off / max(1.0, np.abs(want).max())
            worst[kind] = max(worst.get(kind, 0.0), share)
            wrong += off > 1e-3 if kind == "logits" else share > 1e-5
        print(f"{len(ids)} tokens: " + ", ".join(f"{kind} {share:.1e}" for kind, share in worst.items()))
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
