"""Other libraries' models, without a file between; and their numbers beside ours."""

import numpy as np
import pytest

import vitrine as vt
from conftest import TEXAS


def test_transformers(model, tmp_path):
    transformers = pytest.importorskip("transformers")
    import torch

    model.save(tmp_path / "hf")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf", torch_dtype=torch.float32)
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    ours = vt.from_transformers(theirs, words)
    assert ours.tokens(TEXAS) == model.tokens(TEXAS)
    np.testing.assert_allclose(
        ours.run(TEXAS).logits, theirs(torch.tensor([model.tokens(TEXAS)])).logits.detach().numpy(), atol=1e-3
    )
    shared = theirs.state_dict()["transformer.h.0.mlp.c_fc.weight"]
    assert ours.parameters["h.0.mlp.c_fc.weight"].ctypes.data == shared.data_ptr()  # no copy
    with pytest.raises(vt.ConfigError, match="fast"):
        vt.from_transformers(theirs, object())


def test_transformer_lens(model, tmp_path):
    lens = pytest.importorskip("transformer_lens")
    import torch

    config = lens.HookedTransformerConfig(
        n_layers=2,
        n_heads=2,
        d_model=16,
        d_head=8,
        d_mlp=32,
        n_ctx=16,
        d_vocab=40,
        act_fn="gelu_new",
        normalization_type="LN",
        seed=1,
    )
    theirs = lens.HookedTransformer(config)
    torch.nn.init.normal_(theirs.unembed.W_U)
    ours = vt.from_transformer_lens(theirs)
    ids = [3, 7, 11, 2, 39]
    logits, cache = theirs.run_with_cache(torch.tensor([ids]))
    run = ours.run(ids, "blocks.*.attn.hook_pattern,blocks.*.hook_resid_post,logits")
    np.testing.assert_allclose(run["logits"], logits.detach().numpy(), atol=1e-4)
    for name in ("blocks.1.attn.hook_pattern", "blocks.1.hook_resid_post"):
        np.testing.assert_allclose(run[name], cache[name].detach().numpy(), atol=1e-4)
    theirs.unembed.b_U.data += 1
    with pytest.raises(vt.ConfigError, match="b_U"):
        vt.from_transformer_lens(theirs)
