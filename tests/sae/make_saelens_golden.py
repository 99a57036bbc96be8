"""Makes tests/data/sae/matching_pursuit: a folder that SAELens saved, its codes, and a training of four steps.

  make_saelens_golden.py OUT     needs a Python with sae_lens

cfg.json, sae_weights.safetensors   the SAE, by save_model
golden.safetensors                  x [rows, width], feature_acts, reconstruction
training.safetensors                x [4, batch, width]; before/NAME, grad0/NAME, after/NAME; loss/NAME [4]; feature_acts0, sae_out0
"""

import sys
from pathlib import Path

import sae_lens
import torch
from safetensors.torch import save_file
from sae_lens.saes.sae import TrainStepInput

WIDTH, FEATURES, ROWS, BATCH, STEPS = 24, 64, 48, 32, 4
out = Path(sys.argv[1])
torch.manual_seed(0)
mixing = torch.randn(WIDTH, WIDTH) / WIDTH**0.5
x = torch.randn(ROWS, WIDTH) @ mixing + 0.3

config = sae_lens.MatchingPursuitSAEConfig(d_in=WIDTH, d_sae=FEATURES, residual_threshold=0.3, max_iterations=10)
sae = sae_lens.MatchingPursuitSAE(config)
with torch.no_grad():
    sae.W_dec.div_(sae.W_dec.norm(dim=-1, keepdim=True))
    sae.b_dec.normal_(0, 0.2)
    codes = sae.encode(x)
    again = sae.decode(codes)
sae.save_model(str(out))
save_file({"x": x, "feature_acts": codes, "reconstruction": again}, out / "golden.safetensors")
steps = (codes > 0).sum(-1)
assert steps.min() < 10 and steps.max() <= 10, "the threshold and the number of steps should both have been reached"

training = sae_lens.MatchingPursuitTrainingSAE(
    sae_lens.MatchingPursuitTrainingSAEConfig(
        d_in=WIDTH, d_sae=FEATURES, residual_threshold=0.3, max_iterations=8, decoder_init_norm=1.0
    )
)
with torch.no_grad():
    training.b_dec.normal_(0, 0.2)
rows = torch.randn(STEPS, BATCH, WIDTH) @ mixing + 0.3
named = {"W_dec": training.W_dec, "b_dec": training.b_dec}
kept = {"x": rows, **{f"before/{name}": w.detach().clone() for name, w in named.items()}}
adam = torch.optim.Adam(named.values(), lr=1e-3)
losses = {}
for step in range(STEPS):
    result = training.training_forward_pass(
        TrainStepInput(
            sae_in=rows[step], coefficients={}, dead_neuron_mask=None, n_training_steps=step, is_logging_step=False
        )
    )
    adam.zero_grad()
    result.loss.backward()
    if step == 0:
        kept |= {f"grad0/{name}": w.grad.clone() for name, w in named.items()}
        kept |= {"feature_acts0": result.feature_acts.detach(), "sae_out0": result.sae_out.detach()}
    for name, value in {"loss": result.loss, **result.losses}.items():
        losses.setdefault(name, []).append(value.item())
    adam.step()
kept |= {f"after/{name}": w.detach().clone() for name, w in named.items()}
kept |= {f"loss/{name}": torch.tensor(values) for name, values in losses.items()}
save_file({name: tensor.contiguous() for name, tensor in kept.items()}, out / "training.safetensors")
