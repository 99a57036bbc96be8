"""Weights out of other libraries' models, without a file between. Nothing of them is imported until it is asked for."""

import json

from ._vitrine import ConfigError


def transformers_parts(model, tokenizer):
    """config.json, weights and tokenizer.json of a model of transformers."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    weights = {
        name: tensor
        for name, tensor in weights.items()
        if not name.endswith(
            (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias")
        )
    }
    if getattr(model.config, "tie_word_embeddings", True):
        weights.pop("lm_head.weight", None)
        weights.pop("embed_out.weight", None)
    words = None
    if tokenizer is not None:
        if not hasattr(tokenizer, "backend_tokenizer"):
            raise ConfigError(
                f"{type(tokenizer).__name__} is no fast tokenizer: give one of AutoTokenizer.from_pretrained(name), or leave it out"
            )
        words = tokenizer.backend_tokenizer.to_str()
    return model.config.to_json_string(use_diff=False), weights, words


_ACTIVATIONS = {"gelu_new": "gelu_new", "gelu": "gelu", "relu": "relu", "gelu_fast": "gelu_new"}


def transformer_lens_parts(model):
    """The same of a HookedTransformer that computes what a GPT-2 does."""
    import torch

    c = model.cfg
    for what, wanted, found in [
        ("positional_embedding_type", "standard", c.positional_embedding_type),
        ("normalization_type", "LN", c.normalization_type),
        ("attn_only", False, c.attn_only),
        ("gated_mlp", False, c.gated_mlp),
        ("parallel_attn_mlp", False, c.parallel_attn_mlp),
        ("use_local_attn", False, c.use_local_attn),
    ]:
        if found != wanted:
            hint = " (folded weights: load it by from_pretrained_no_processing)" if found == "LNPre" else ""
            raise ConfigError(f"from_transformer_lens: {what} is {found!r}{hint}; models with {wanted!r} are read")
    if c.act_fn not in _ACTIVATIONS:
        raise ConfigError(f"from_transformer_lens: act_fn is {c.act_fn!r}; gelu_new, gelu and relu are read")
    if not c.use_attn_scale or abs(c.attn_scale - c.d_head**0.5) > 1e-6 or c.d_head * c.n_heads != c.d_model:
        raise ConfigError(
            "from_transformer_lens: its heads are not d_model / heads wide, or its scores are not divided by the root of that"
        )
    state = {name: value.detach().float().cpu() for name, value in model.state_dict().items()}
    if state.get("unembed.b_U") is not None and state["unembed.b_U"].abs().max() > 0:
        raise ConfigError(
            "from_transformer_lens: b_U is not 0, and a GPT-2 has none (folded weights: load it by from_pretrained_no_processing)"
        )
    weights = {
        "wte.weight": state["embed.W_E"],
        "wpe.weight": state["pos_embed.W_pos"],
        "ln_f.weight": state["ln_final.w"],
        "ln_f.bias": state["ln_final.b"],
    }
    tied = torch.equal(state["unembed.W_U"].T, state["embed.W_E"])
    if not tied:
        weights["lm_head.weight"] = state["unembed.W_U"].T
    for layer in range(c.n_layers):
        of, to = f"blocks.{layer}.", f"h.{layer}."
        joined = [state[f"{of}attn.W_{x}"].permute(1, 0, 2).reshape(c.d_model, -1) for x in "QKV"]
        weights[to + "attn.c_attn.weight"] = torch.cat(joined, 1)
        weights[to + "attn.c_attn.bias"] = torch.cat([state[f"{of}attn.b_{x}"].reshape(-1) for x in "QKV"])
        weights[to + "attn.c_proj.weight"] = state[of + "attn.W_O"].reshape(-1, c.d_model)
        weights[to + "attn.c_proj.bias"] = state[of + "attn.b_O"]
        weights[to + "mlp.c_fc.weight"], weights[to + "mlp.c_fc.bias"] = state[of + "mlp.W_in"], state[of + "mlp.b_in"]
        weights[to + "mlp.c_proj.weight"], weights[to + "mlp.c_proj.bias"] = (
            state[of + "mlp.W_out"],
            state[of + "mlp.b_out"],
        )
        for norm in ("1", "2"):
            weights[f"{to}ln_{norm}.weight"], weights[f"{to}ln_{norm}.bias"] = (
                state[f"{of}ln{norm}.w"],
                state[f"{of}ln{norm}.b"],
            )
    config = {
        "model_type": "gpt2",
        "n_layer": c.n_layers,
        "n_head": c.n_heads,
        "n_embd": c.d_model,
        "n_inner": c.d_mlp,
        "n_positions": c.n_ctx,
        "vocab_size": c.d_vocab,
        "activation_function": _ACTIVATIONS[c.act_fn],
        "layer_norm_epsilon": c.eps,
        "tie_word_embeddings": tied,
        "scale_attn_by_inverse_layer_idx": bool(c.scale_attn_by_inverse_layer_idx),
    }
    words = None
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is not None:
        words = backend.to_str()
    return json.dumps(config), {name: tensor.contiguous() for name, tensor in weights.items()}, words
