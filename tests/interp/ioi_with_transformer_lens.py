"""Compares the files of `bash apps/examples/ioi.sh --out DIR` with TransformerLens 3, number by number.

usage: python tests/interp/ioi_with_transformer_lens.py DIR MODEL_FOLDER [GOLDEN.safetensors]

MODEL_FOLDER is a HuggingFace folder of a GPT-2 or a Llama in f32 (vitrine convert makes one of a GGUF). Needs
transformer-lens<4, transformers, torch. Prints the largest difference of each kind and fails above 1e-4, relative to
the largest value where that is above 1. With GOLDEN its values are written there, named FILE/TENSOR: those of the
default model are tests/data/ioi/golden.safetensors.
"""
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from safetensors.torch import load_file, save_file
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions.gpt2 import convert_gpt2_weights
from transformer_lens.pretrained.weight_conversions.llama import convert_llama_weights
from transformers import AutoModelForCausalLM, AutoTokenizer

BOUND = 1e-4


def load(folder):
    """The model with its raw weights: nothing is folded or centred."""
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    c = hf.config
    shared = dict(n_layers=c.num_hidden_layers, d_model=c.hidden_size, n_heads=c.num_attention_heads,
                  d_head=c.hidden_size // c.num_attention_heads, d_vocab=c.vocab_size, device="cpu", n_ctx=128)
    if c.model_type == "gpt2":
        cfg = HookedTransformerConfig(**(shared | dict(
            d_mlp=c.n_inner or 4 * c.hidden_size, act_fn="gelu_new" if c.activation_function == "gelu_new" else "gelu",
            normalization_type="LN", eps=c.layer_norm_epsilon, n_ctx=c.n_positions,
            attention_dir="causal", original_architecture="GPT2LMHeadModel")))
        state = convert_gpt2_weights(hf, cfg)
    else:
        rope = getattr(c, "rope_parameters", None) or {"rope_theta": c.rope_theta}
        cfg = HookedTransformerConfig(**(shared | dict(
            d_mlp=c.intermediate_size, act_fn="silu", normalization_type="RMS", final_rms=True, gated_mlp=True,
            positional_embedding_type="rotary", rotary_dim=shared["d_head"], rotary_adjacent_pairs=False,
            rotary_base=int(rope["rope_theta"]), eps=c.rms_norm_eps, n_key_value_heads=c.num_key_value_heads,
            original_architecture="LlamaForCausalLM")))
        state = convert_llama_weights(hf, cfg)
    model = HookedTransformer(cfg)
    model.load_state_dict(state, strict=False)
    return model.eval()


class Report:
    failed = False

    def __init__(self, folder):
        self.folder, self.files, self.golden = folder, {}, {}

    def ours(self, file):
        if file not in self.files:
            self.files[file] = load_file(f"{self.folder}/{file}.safetensors")
        return self.files[file]

    def say(self, file, tensor, theirs):
        """The tensor of a file against theirs, which may have its first columns alone."""
        what = f"{file}/{tensor}"
        self.golden[what] = theirs.detach().float().contiguous().clone()
        theirs = theirs.double()
        ours = self.ours(file)[tensor].double()
        if ours.dim() == 2 and ours.shape != theirs.shape:
            ours = ours[:, :theirs.shape[1]]
        assert ours.shape == theirs.shape, (what, ours.shape, theirs.shape)
        off = (ours - theirs).abs().max().item() / max(1.0, theirs.abs().max().item())
        self.failed |= not off <= BOUND
        print(f"{what:40} {tuple(theirs.shape)!s:16} largest |value| {theirs.abs().max().item():8.3f}  off by {off:.1e}")


def main(folder, model_folder, golden=None):
    torch.set_grad_enabled(False)
    model = load(model_folder)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    pairs = [json.loads(line) for line in open(f"{folder}/ioi.jsonl")]
    report = Report(folder)
    ids = lambda text: torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
    clean = [ids(p["clean"]) for p in pairs]
    corrupt = [ids(p["corrupt"]) for p in pairs]
    answers = [(ids(p["answer"]).item(), ids(p["wrong"]).item()) for p in pairs]
    difference = lambda logits, i: logits[0, -1, answers[i][0]] - logits[0, -1, answers[i][1]]
    runs = [model.run_with_cache(t) for t in clean]
    caches = [cache for _, cache in runs]
    layers = model.cfg.n_layers

    # The logit lens: the stream after the embedding and each layer.
    directions = [model.W_U[:, a] - model.W_U[:, w] for a, w in answers]
    biases = [model.b_U[a] - model.b_U[w] for a, w in answers]
    streams = [torch.stack([c["resid_pre", 0][0, -1]] + [c["resid_post", l][0, -1] for l in range(layers)]) for c in caches]
    report.say("lens", "raw/each", torch.stack([s @ d for s, d in zip(streams, directions)]))
    report.say("lens", "ln/each",
               torch.stack([model.ln_final(s[None])[0] @ d + b for s, d, b in zip(streams, directions, biases)]))
    last = torch.stack([difference(l, i) for i, (l, _) in enumerate(runs)])
    print(f"mean logit difference {last.mean().item():.4f}, ours {report.ours('lens')['ln'][-1].item():.4f}")

    # Direct logit attribution: every head and MLP. The final norm's gain is part of the direction.
    has_positions = model.cfg.positional_embedding_type == "standard"
    theirs = []
    for i, c in enumerate(caches):
        gain = model.ln_final.w if hasattr(model.ln_final, "w") else torch.ones(model.cfg.d_model)
        u = directions[i] * gain
        if model.cfg.normalization_type == "LN":
            u = u - u.mean()
        u = u / c["ln_final.hook_scale"][0, -1]
        row = [c["hook_embed"][0, -1] @ u] + ([c["hook_pos_embed"][0, -1] @ u] if has_positions else [])
        for l in range(layers):
            heads = torch.einsum("he,hed->hd", c["z", l][0, -1], model.W_O[l])
            row += list(heads @ u) + [model.b_O[l] @ u, c["mlp_out", l][0, -1] @ u]
        theirs.append(torch.stack(row))
    report.say("decompose", "share/each", torch.stack(theirs))

    # Attention from the end to the roles.
    spans = []
    for p, t in zip(pairs, clean):
        at = lambda r: range(*r) if isinstance(r, list) else None
        places = []
        for role in ("io", "s1", "s2"):
            r = p["roles"][role]
            if isinstance(r, str):
                inside = [k for k in range(t.shape[1]) if tokenizer.decode(t[0, k]) == r]
                assert len(inside) == 1, (p, role)
                places.append(inside)
            elif isinstance(r, int):
                places.append([r % t.shape[1]])
            else:
                places.append(list(at(r)))
        spans.append(places)
    theirs = torch.stack([torch.stack([torch.stack([torch.stack([c["pattern", l][0, h, -1, s].sum() for s in spans[i]])
                                                    for h in range(model.cfg.n_heads)]) for l in range(layers)])
                          for i, c in enumerate(caches)])  # [prompt, layer, head, role]
    for k, role in enumerate(("io", "s1", "s2")):
        report.say("attention", f"to_{role}/each", theirs[..., k])

    # Activation patching, denoising: the corrupt run with clean activations put in.
    def patched(i, site, edit):
        logits = model.run_with_hooks(corrupt[i], fwd_hooks=[(site, lambda x, hook: edit(x.clone(), caches[i][site]))])
        return difference(logits, i)

    for name in ("resid_pre", "attn_out", "mlp_out"):
        for i in range(len(pairs)):
            def at(p):
                def edit(x, other):
                    x[:, p] = other[:, p]
                    return x
                return edit
            theirs = torch.stack([torch.stack([patched(i, f"blocks.{l}.hook_{name}", at(p)) for p in range(clean[i].shape[1])])
                                  for l in range(layers)])
            report.say("patch_stream", f"{name}/pair/{i}/sweep", theirs)
    for name in ("z", "q", "k", "v", "pattern"):
        count = model.cfg.n_key_value_heads if name in "kv" and model.cfg.n_key_value_heads else model.cfg.n_heads
        for i in range(min(2, len(pairs))):
            def of(h):
                def edit(x, other):
                    if name == "pattern": x[:, h] = other[:, h]
                    else: x[:, :, h] = other[:, :, h]
                    return x
                return edit
            theirs = torch.stack([torch.stack([patched(i, f"blocks.{l}.attn.hook_{name}", of(h)) for h in range(count)])
                                  for l in range(layers)])
            report.say("patch_heads", f"{name}/pair/{i}/sweep", theirs)

    # Attribution patching at z.
    torch.set_grad_enabled(True)
    total = torch.zeros(layers, model.cfg.n_heads)
    for i in range(len(pairs)):
        kept = {}
        model.reset_hooks()
        def keep(x, hook):
            x.retain_grad()
            kept[hook.name] = x
        logits = model.run_with_hooks(corrupt[i], fwd_hooks=[(f"blocks.{l}.attn.hook_z", keep) for l in range(layers)])
        difference(logits, i).backward()
        for l in range(layers):
            x = kept[f"blocks.{l}.attn.hook_z"]
            total[l] += ((caches[i]["z", l] - x) * x.grad).sum((0, 1, 3)).detach() / len(pairs)
    report.say("attribution", "node/attn.hook_z", total)
    if golden:
        save_file(report.golden, golden)
    print("all within 1e-4" if not report.failed else "MORE THAN 1e-4 APART")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
