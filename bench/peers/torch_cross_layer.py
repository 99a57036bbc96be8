"""A cross-layer transcoder in plain PyTorch, beside `vitrine sae train --cross-layer`: losses from the same start, step times, memory.

  torch_cross_layer.py --program build/bench/apps/vitrine --width 256 --layers 6 --features 4096 --batch 4096 --k 32

The PyTorch side is written from the published formulas (Ameisen et al. 2025, "Circuit tracing"), densely, as they stand: every decoder
multiplies all features. topk in place of their jumprelu gives both sides the same number of active features. Its weights begin as those of
Vitrine, of which a run with a learning rate of nearly 0 keeps the first; the rows of a step are all rows there are, so that their order does
not matter. One after the other, each in a process of its own. Prints JSON; needs torch and safetensors.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time


def make_rows(o, folder):
    """Inputs and targets of every layer: an output is made of hidden features of its own and all earlier inputs."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    tensors, written = {}, 0
    for l in range(o.layers):
        x = torch.randn(o.batch, o.width)
        hidden = torch.relu(x @ torch.randn(o.width, 4 * o.width) / o.width**0.5 - 1.5)
        written = 0.7 * written + hidden @ torch.randn(4 * o.width, o.width) / o.width**0.5
        tensors[f"in.{l}"], tensors[f"out.{l}"] = x.contiguous(), written.clone().contiguous()
    save_file(tensors, f"{folder}/rows.safetensors")


def vitrine(o, folder, rate, steps):
    """A run from the first weights: its log, and its peak memory."""
    command = [o.program, "sae", "train", "--cross-layer", "--activations", f"{folder}/rows.safetensors"]
    for side in ("in", "out"):
        for l in range(o.layers):
            command += ["--tensor", f"{side}.{l}"]
    command += ["--kind", "topk", "--k", str(o.k), "--features", str(o.features), "--batch", str(o.batch), "--buffer", str(o.batch)]
    command += ["--vectors", str(o.batch * steps), "--rate", str(rate), "--aux", "0", "--log-every", "1", "--save-every", "100000"]
    command += ["--threads", str(o.threads), "--quiet", "--overwrite", "--out", f"{folder}/run"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit("vitrine failed: " + " ".join(command))
    with open(f"{folder}/run/log.jsonl") as lines:
        return [json.loads(line) for line in lines], usage.ru_maxrss * 1024


def keep_first_weights(o, folder):
    """What Vitrine's run began with, by its names: W_enc [features, d], W_dec [features, outputs d]."""
    import torch
    from safetensors import safe_open

    with safe_open(f"{folder}/run/training.safetensors", "pt") as f:
        names = [name for name in f.keys() if name.startswith("0.adam.")]
        torch.save({name[len("0.adam.") :]: f.get_tensor(name)[0].clone() for name in names}, f"{folder}/start.pt")


def torch_steps(o, folder):
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(o.threads)
    rows = load_file(f"{folder}/rows.safetensors")
    x = [rows[f"in.{l}"] for l in range(o.layers)]
    y = [rows[f"out.{l}"] for l in range(o.layers)]
    variance = [((t - t.mean(0)) ** 2).sum() for t in y]
    start = torch.load(f"{folder}/start.pt")
    w = {name: torch.nn.Parameter(t) for name, t in start.items()}
    enc = [w[f"{l}.W_enc"] for l in range(o.layers)]
    shaped = {f"{l}.W_enc": (o.features, o.width) for l in range(o.layers)}
    shaped |= {f"{l}.W_dec": (o.features, o.layers - l, o.width) for l in range(o.layers)}
    for name, shape in shaped.items():
        w[name].data = w[name].data.reshape(shape)
    adam = torch.optim.Adam(w.values(), lr=o.rate, betas=(0.9, 0.999), eps=1e-8)
    losses, seconds = [], []
    for _ in range(o.steps):
        begin = time.perf_counter()
        z = []
        for l in range(o.layers):
            h = x[l] @ enc[l].T + w[f"{l}.b_enc"]
            top = torch.topk(h, o.k, dim=1)
            z.append(torch.zeros_like(h).scatter(1, top.indices, torch.relu(top.values)))
        loss = 0
        for m in range(o.layers):
            given = w[f"{m}.b_dec"]
            for l in range(m + 1):
                given = given + z[l] @ w[f"{l}.W_dec"][:, m - l]
            loss = loss + ((given - y[m]) ** 2).sum() / variance[m]
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(w.values(), 1.0)
        adam.step()
        seconds.append(time.perf_counter() - begin)
        losses.append(loss.item())
    return {"losses": losses, "seconds": seconds, "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


PARTS = {"rows": make_rows, "start": keep_first_weights, "steps": torch_steps}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--program", required=True)
    for name, default in (("width", 256), ("layers", 6), ("features", 4096), ("batch", 4096), ("k", 32), ("steps", 5), ("threads", 2)):
        p.add_argument(f"--{name}", type=int, default=default)
    p.add_argument("--rate", type=float, default=1e-3)
    p.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    o = p.parse_args()
    if o.part:
        json.dump(PARTS[o.part[0]](o, o.part[1]), sys.stdout)
        return

    # PyTorch is in processes of its own: a child's peak memory counts from what its parent had.
    def part(name, folder):
        again = [sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--part", name, folder]
        return json.loads(subprocess.run(again, check=True, stdout=subprocess.PIPE, text=True).stdout)

    with tempfile.TemporaryDirectory() as folder:
        part("rows", folder)
        vitrine(o, folder, 1e-30, 1)
        part("start", folder)
        log, peak = vitrine(o, folder, o.rate, o.steps)
        ours = {
            "losses": [line["loss"] for line in log],
            "seconds": [o.batch / line["vectors_per_second"] for line in log],
            "peak_rss_bytes": peak,
        }
        theirs = part("steps", folder)
    worst = max(abs(a - b) / abs(b) for a, b in zip(ours["losses"], theirs["losses"]))
    result = {"vitrine": ours, "torch": theirs, "largest_relative_difference_of_losses": worst}
    result["times_faster"] = min(theirs["seconds"]) / min(ours["seconds"])
    result["memory_ratio"] = ours["peak_rss_bytes"] / theirs["peak_rss_bytes"]
    print(json.dumps(result, indent=1))


main()
