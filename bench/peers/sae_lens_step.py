"""Times SAELens's training steps on the works of sae_bench, on the CPU.

Each work runs in a process of its own, so that its peak memory is its own: forward, loss, backward, clipping to a norm of
1, Adam. The first step is not timed.

  sae_lens_step.py --out peer.json                          every work
  sae_lens_step.py --work sae/topk/768x24576x4096 --sparse-activations
  sae_lens_step.py --list
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time

import report

SIZES = ((768, 24576, 4096), (768, 6144, 4096), (256, 4096, 4096))
KINDS = {
    "standard": ("_sparse",),
    "topk": ("_dead", "_file"),
    "batchtopk": ("_dead", "_file"),
    "jumprelu": ("_sparse",),
}
WORKS = {
    f"sae/{kind}{suffix}/{'x'.join(map(str, size))}": (kind, suffix, size)
    for size in SIZES
    for kind, others in KINDS.items()
    for suffix in ("", *others)
}


def make_step(kind, suffix, size, sparse_activations):
    """A function of no arguments that makes one training step."""
    import torch
    import sae_lens
    from sae_lens.saes.sae import TrainStepInput

    torch.manual_seed(0)
    d_in, d_sae, batch = size
    common = dict(d_in=d_in, d_sae=d_sae)
    if kind == "standard":
        config = sae_lens.StandardTrainingSAEConfig(**common, l1_coefficient=5.0)
        sae, coefficients = sae_lens.StandardTrainingSAE(config), {"l1": 5.0}
    elif kind == "jumprelu":
        config = sae_lens.JumpReLUTrainingSAEConfig(**common, l0_coefficient=1.0)
        sae, coefficients = sae_lens.JumpReLUTrainingSAE(config), {"l0": 1.0}
    else:
        names = {"topk": "TopK", "batchtopk": "BatchTopK"}
        config = getattr(sae_lens, names[kind] + "TrainingSAEConfig")(
            **common, k=32, use_sparse_activations=sparse_activations
        )
        sae, coefficients = getattr(sae_lens, names[kind] + "TrainingSAE")(config), {}
    if suffix == "_sparse":
        with torch.no_grad():
            sae.b_enc.fill_(-0.27)  # of 0.1: about 85 features of a sample are active
    x = torch.randn(batch, d_in)
    dead = torch.zeros(d_sae, dtype=torch.bool)
    if suffix == "_dead":
        dead[::3] = True
    if suffix == "_file":  # rows in random order from a mapped file
        from safetensors import safe_open
        from safetensors.torch import save_file

        folder = tempfile.TemporaryDirectory()
        file = f"{folder.name}/x.safetensors"
        save_file({"x": torch.randn(131072, d_in)}, file)
        rows = safe_open(file, "pt").get_tensor("x")
        order = iter(torch.randperm(len(rows)).split(batch))
    optimiser = torch.optim.Adam(sae.parameters(), lr=3e-4)

    def step():
        sample = rows[next(order)] if suffix == "_file" else x
        given = TrainStepInput(
            sae_in=sample, coefficients=coefficients, dead_neuron_mask=dead, n_training_steps=10, is_logging_step=False
        )
        out = sae.training_forward_pass(given)
        optimiser.zero_grad()
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        optimiser.step()

    step.keeps = folder if suffix == "_file" else None
    return step


def run(work, threads, repetitions, sparse_activations):
    import sae_lens
    import torch

    torch.set_num_threads(threads)
    kind, suffix, size = WORKS[work]
    step = make_step(kind, suffix, size, sparse_activations)
    step()
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    peer = "sae_lens sparse" if sparse_activations else "sae_lens"
    return report.entry(work, peer, sae_lens.__version__, threads, seconds)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", action="append", help="one of --list; may be repeated (default: all)")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--sparse-activations", action="store_true", help="topk and batchtopk with use_sparse_activations")
    parser.add_argument("--out")
    args = parser.parse_args()
    if args.list:
        print("\n".join(WORKS))
        return
    works = args.work or list(WORKS)
    for work in works:
        if work not in WORKS:
            sys.exit(f"there is no work {work}; --list lists them")
    if len(works) == 1:
        report.write([run(works[0], args.threads, args.repetitions, args.sparse_activations)], args.out)
        return
    entries = []
    for work in works:
        command = [sys.executable, "-B", __file__, "--work", work, "--threads", str(args.threads)]
        command += ["--repetitions", str(args.repetitions)] + ["--sparse-activations"] * args.sparse_activations
        entries += json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    report.write(entries, args.out)


if __name__ == "__main__":
    main()
