"""Folders there and back: what Vitrine writes SAELens reads, and the other way round, with the same codes.

saelens_folders.py PROGRAM     needs a Python with sae_lens; exits with 77 (skipped) without it
"""

import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import sae_lens
    import torch
    from safetensors.torch import load_file, save_file
except ImportError as missing:
    print(f"SaeLens: Skipped\nneeds a Python with sae_lens ({missing})\n[  SKIPPED ]")
    sys.exit(77)

WIDTH, FEATURES, ROWS = 24, 96, 400
program = sys.argv[1]
failures = 0


def vitrine(*words):
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr}")


def compare(what, folder, activations, x):
    """Codes and reconstructions by both, of one folder."""
    global failures
    out = folder.parent / (folder.name + ".codes.safetensors")
    vitrine("sae", "encode", "--sae", folder, "--activations", activations, "--tensor", "x", "--out", out)
    ours = load_file(out)
    sae = sae_lens.SAE.load_from_disk(str(folder))
    with torch.no_grad():
        codes = sae.encode(x)
        again = sae.decode(codes)
    assert (codes > 0).float().mean() > 0.01, "all but no feature is active: the comparison says nothing"
    for name, theirs in (("feature_acts", codes), ("reconstruction", again)):
        error = (ours[name] - theirs).abs().max().item() / max(1.0, theirs.abs().max().item())
        verdict = "ok" if error <= 1e-5 else "DIFFERS"
        failures += verdict != "ok"
        print(f"{what:<40} {name:<16} {error:.1e} {verdict}")


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    torch.manual_seed(0)
    x = torch.randn(ROWS, WIDTH) @ torch.randn(WIDTH, WIDTH) / WIDTH**0.5 + 0.3
    save_file({"x": x}, folder / "x.safetensors")
    given = ["--activations", folder / "x.safetensors", "--tensor", "x", "--features", FEATURES, "--batch", 100]
    given += ["--vectors", 3000, "--k", 6, "--rate", 0.003, "--sparsity", 0.02, "--quiet"]
    for kind in ("standard", "topk", "batchtopk", "matryoshka", "jumprelu", "gated", "matching_pursuit"):
        vitrine("sae", "train", *given, "--kind", kind, "--out", folder / kind)
        compare(f"Vitrine's {kind}", folder / kind, folder / "x.safetensors", x)
    for how in ("expected_average_only_in", "layer_norm", "constant_norm_rescale"):
        more = ["--aux", 0] if how != "expected_average_only_in" else []
        vitrine("sae", "train", *given, "--kind", "topk", "--normalize", how, *more, "--out", folder / how)
        compare(f"Vitrine's topk, {how}", folder / how, folder / "x.safetensors", x)
    vitrine("sae", "convert", "--from", folder / "jumprelu", "--fold-decoder-norm", "--out", folder / "folded")
    compare("Vitrine's jumprelu, folded", folder / "folded", folder / "x.safetensors", x)
    vitrine("sae", "convert", "--from", folder / "topk", "--store", "f16", "--out", folder / "half")
    compare("Vitrine's topk in f16", folder / "half", folder / "x.safetensors", x)
    for kind in ("Standard", "TopK", "BatchTopK", "JumpReLU", "Gated", "MatchingPursuit"):
        config = getattr(sae_lens, kind + "TrainingSAEConfig")
        more = (
            {"k": 6} if "TopK" in kind else {"max_iterations": 6, "decoder_init_norm": 1.0} if "Pursuit" in kind else {}
        )
        sae = getattr(sae_lens, kind + "TrainingSAE")(config(d_in=WIDTH, d_sae=FEATURES, **more))
        with torch.no_grad():
            for key, weight in sae.named_parameters():
                noise = 0.05 * torch.randn_like(weight)
                weight.add_(noise.abs() if "threshold" in key else noise)
        sae.save_inference_model(str(folder / ("theirs" + kind)))
        compare(f"SAELens's {kind}", folder / ("theirs" + kind), folder / "x.safetensors", x)

sys.exit(1 if failures else 0)
