"""Times TransformerLens's activation patching, and the same sweep batched by hand in PyTorch, on the works of sweep_bench.

  transformer_lens_patching.py --out peer.json            every work
  transformer_lens_patching.py --work sweep/resid_pre     one of them; --list names them

GPT-2 small's shape, random weights, two prompts of 15 tokens that differ in the fifth and the tenth. Needs
transformer_lens below version 4, which still has HookedTransformer. A TransformerLens sweep takes half a minute and is
timed once; by head and position it takes eight, and 144 of its 2160 runs stand for all.
"""

import argparse
import importlib.metadata
import time

import report

TOKENS, LAYERS, HEADS = 15, 12, 12
FUNCTIONS = {
    "sweep/resid_pre": "get_act_patch_resid_pre",
    "sweep/mlp_out": "get_act_patch_mlp_out",
    "sweep/z_head": "get_act_patch_attn_head_out_all_pos",
    "sweep/pattern_head": "get_act_patch_attn_head_pattern_all_pos",
    "sweep/q_head": "get_act_patch_attn_head_q_all_pos",
}
BY_POSITION = "sweep/z_head_pos"


def prompts(torch):
    clean = torch.randint(0, 50257, (1, TOKENS))
    corrupt = clean.clone()
    corrupt[0, 4], corrupt[0, 9] = 123, 456
    return clean, corrupt


def lens(work):
    """Seconds of one sweep by TransformerLens."""
    import torch
    import transformer_lens
    from transformer_lens import patching

    config = transformer_lens.HookedTransformerConfig(
        n_layers=LAYERS, d_model=768, n_ctx=1024, d_head=64, n_heads=HEADS, d_mlp=3072, d_vocab=50257,
        act_fn="gelu_new", normalization_type="LNPre", device="cpu", seed=0,
    )  # fmt: skip
    model = transformer_lens.HookedTransformer(config)
    clean, corrupt = prompts(torch)
    _, cache = model.run_with_cache(clean)

    def metric(logits):
        return logits[0, -1, 100] - logits[0, -1, 200]

    if work in FUNCTIONS:
        start = time.perf_counter()
        getattr(patching, FUNCTIONS[work])(model, corrupt, cache, metric)
        return time.perf_counter() - start

    def put_in(z, hook, head, position):
        z[:, position, head] = cache[hook.name][:, position, head]
        return z

    some = [(n % LAYERS, n * 5 % TOKENS, n // LAYERS) for n in range(LAYERS * HEADS)]
    start = time.perf_counter()
    for layer, position, head in some:
        edit = (f"blocks.{layer}.attn.hook_z", lambda z, hook, p=position, h=head: put_in(z, hook, h, p))
        metric(model.run_with_hooks(corrupt, fwd_hooks=[edit]))
    return (time.perf_counter() - start) / len(some) * LAYERS * HEADS * TOKENS


def whole_batches():
    """Seconds of the resid_pre sweep as one batch of 15 whole runs for each layer: what one writes who knows PyTorch."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(attn_pdrop=0, embd_pdrop=0, resid_pdrop=0)).eval()
    clean, corrupt = prompts(torch)
    entering = []  # the stream before each block of the clean run
    blocks = model.transformer.h
    hooks = [block.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0][0].clone())) for block in blocks]
    model(clean, use_cache=False)
    for hook in hooks:
        hook.remove()
    each = torch.arange(TOKENS)
    batch = corrupt.repeat(TOKENS, 1)

    def sweep():
        for layer, block in enumerate(blocks):

            def patch(_, inputs, layer=layer):
                x = inputs[0].clone()
                x[each, each] = entering[layer]
                return (x, *inputs[1:])

            hook = block.register_forward_pre_hook(patch)
            logits = model(batch, use_cache=False).logits[:, -1]
            hook.remove()
            (logits[:, 100] - logits[:, 200]).tolist()

    sweep()
    start = time.perf_counter()
    sweep()
    return time.perf_counter() - start


def main():
    works = [*FUNCTIONS, BY_POSITION]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", action="append", choices=works, help="may be repeated; all of them without it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", help="the JSON file to write; stdout without it")
    parser.add_argument("--list", action="store_true", help="print the names of the works")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(works))
        return

    import torch

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    torch.set_grad_enabled(False)

    measured = []

    def add(work, peer, package, seconds):
        version = importlib.metadata.version(package)
        measured.append(report.entry(work, peer, version, arguments.threads, [seconds]))

    for work in arguments.work or works:
        if work == "sweep/resid_pre":
            add(work, "whole batches", "torch", whole_batches())
        add(work, "transformer_lens", "transformer-lens", lens(work))
    report.write(measured, arguments.out)


if __name__ == "__main__":
    main()
