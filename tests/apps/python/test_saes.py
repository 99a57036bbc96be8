"""SAEs: loaded, encoded, trained, saved and spliced."""

import gc
import os

import numpy as np
import pytest

import vitrine as vt
from conftest import TEXAS, TEXTS

SITE = "blocks.4.hook_mlp_out"


@pytest.fixture(scope="module")
def sae():
    return vt.Sae.load(SITE)


def test_what_an_sae_is(sae):
    assert (
        sae.site == SITE
        and sae.config["architecture"] == "jumprelu"
        and sae.config["d_sae"] == 2048
        and "2048 features" in repr(sae)
        and SITE in sae.name
    )
    assert not sae.weights["W_dec"].flags.writeable and sae.weights["W_enc"].shape == (256, 2048)
    with pytest.raises(vt.FileError):
        vt.Sae.load("/no/such/folder")


def test_encoding_is_the_formula(model, sae):
    x = model.run(TEXAS, SITE)[SITE]
    w = {name: np.asarray(a, np.float64) for name, a in sae.weights.items()}
    b = w["b_dec"] if sae.config["apply_b_dec_to_input"] else 0
    h = (x - b) @ w["W_enc"] + w["b_enc"]
    f = np.where(h > w["threshold"], h, 0)
    np.testing.assert_allclose(sae.encode(x), f, atol=1e-3)
    np.testing.assert_allclose(sae.reconstruct(x), f @ w["W_dec"] + w["b_dec"], atol=1e-3)
    assert sae.encode(x[0, 0:1]).shape == (1, 2048)
    with pytest.raises(vt.ShapeError):
        sae.encode(np.zeros((2, 3), np.float32))
    with pytest.raises(vt.NumericError):
        sae.encode(np.full((1, 256), np.nan, np.float32))
    with pytest.raises(Exception):
        sae.encode("text")


def test_features_are_sites_once_spliced(model, sae):
    with_sae = model.with_sae(sae)
    acts = SITE + ".hook_sae_acts_post"
    run = with_sae.run(TEXAS, [acts, "logits"])
    np.testing.assert_allclose(run["logits"], model.run(TEXAS).logits, atol=1e-3)
    np.testing.assert_allclose(run[acts], sae.encode(model.run(TEXAS, SITE)[SITE]), atol=1e-3)
    strongest = int(run[acts][0, 4].argmax())
    edited = with_sae.run(TEXAS, [SITE], edits=vt.zero(acts, feature=strongest, pos=4))
    change = edited[SITE][0, 4] - model.run(TEXAS, SITE)[SITE][0, 4]
    np.testing.assert_allclose(change, -run[acts][0, 4, strongest] * sae.weights["W_dec"][strongest], atol=1e-3)
    assert not np.allclose(model.with_sae(sae, error="drop").run(TEXAS).logits, run["logits"], atol=1e-2)
    graph = vt.splice(model.build_for(TEXAS), sae)
    assert acts in graph.sites
    for wrong, error in [
        (lambda: model.with_sae(sae, "blocks.9.hook_mlp_out"), vt.SiteError),
        (lambda: model.with_sae(sae, error="loose"), vt.UsageError),
    ]:
        with pytest.raises(error):
            wrong()


def test_saved_folded_and_made_of_weights(model, sae, tmp_path):
    x = model.run(TEXAS, SITE)[SITE]
    sae.save(tmp_path / "sae")
    np.testing.assert_array_equal(vt.Sae.load(tmp_path / "sae").encode(x), sae.encode(x))
    folded = sae.fold_decoder_norm()
    np.testing.assert_allclose(np.linalg.norm(folded.weights["W_dec"], axis=1).max(), 1, atol=1e-5)
    np.testing.assert_allclose(folded.reconstruct(x), sae.reconstruct(x), atol=1e-2)
    config = (tmp_path / "sae" / "cfg.json").read_text()
    made = vt.Sae.from_weights(config, {name: np.array(a) for name, a in sae.weights.items()})
    np.testing.assert_array_equal(made.encode(x), sae.encode(x))
    found = model.sae_features(made, TEXAS)  # it has no folder: it gets one
    assert len(found.active) > 0
    with pytest.raises(vt.CheckpointError):
        vt.Sae.from_weights(config, {"W_enc": np.zeros((2, 2), np.float32)})
    with pytest.raises(vt.Error):
        vt.Sae.from_weights("not json", {})


def test_training(model, tmp_path):
    options = {"features": 256, "k": 8, "vectors": 6000, "batch": 256, "buffer": 2048}
    sae = model.train_sae("blocks.1.hook_mlp_out", TEXTS, kind="topk", **options)
    assert (
        sae.config["architecture"] == "topk" and sae.site == "blocks.1.hook_mlp_out" and sae.training["last"]["l0"] == 8
    )
    x = model.run(TEXAS, sae.site)[sae.site]
    assert (sae.encode(x)[0] > 0).sum(-1).max() <= 8
    again = model.train_sae(
        "blocks.1.hook_mlp_out", ({"text": t} for t in TEXTS), kind="topk", out=tmp_path / "run", **options
    )
    np.testing.assert_array_equal(again.weights["W_enc"], sae.weights["W_enc"])  # the same bits
    assert (tmp_path / "run" / "cfg.json").exists()
    frame = vt.curves(tmp_path / "run")
    assert frame.runs[0]["quantities"] and frame.html
    both = model.train_sae(
        "blocks.1.hook_mlp_out",
        TEXTS,
        kind="topk",
        sweep={"k": [4, 8]},
        **{k: v for k, v in options.items() if k != "k"},
    )
    assert [s.config["k"] for s in both] == [4, 8]
    folder = both[0].folder
    assert os.path.isdir(folder)
    del both
    gc.collect()
    assert not os.path.isdir(folder)  # a run in a folder of its own goes with its SAEs
    with pytest.raises(vt.Error):
        model.train_sae("blocks.1.hook_mlp_out", TEXTS, kind="perfect")


def test_matching_pursuit(model):
    options = {"features": 256, "k": 6, "vectors": 6000, "batch": 256, "buffer": 2048, "residual": 0.1, "quiet": True}
    sae = model.train_sae("blocks.1.hook_mlp_out", TEXTS, kind="matching_pursuit", **options)
    assert sae.config["architecture"] == "matching_pursuit" and set(sae.weights) == {"W_dec", "b_dec"}
    assert sae.config["max_iterations"] == 6 and sae.config["residual_threshold"] == 0.1
    x = model.run(TEXAS, sae.site)[sae.site]
    codes, w = sae.encode(x), sae.weights
    residual = x[0, 2] - w["b_dec"]
    found = np.zeros(256)
    for _ in range(6):  # one token, by hand
        best = int((w["W_dec"] @ residual).argmax())
        again, code = found[best] > 0, w["W_dec"][best] @ residual
        found[best] += code
        residual = residual - code * w["W_dec"][best]
        if again or np.linalg.norm(residual) < 0.1:
            break
    np.testing.assert_allclose(codes[0, 2], found, atol=1e-4)
    run = model.with_sae(sae).run(TEXAS, [sae.site + ".hook_sae_acts_post", "logits"])
    np.testing.assert_allclose(run["logits"], model.run(TEXAS).logits, atol=1e-3)
    np.testing.assert_allclose(run[sae.site + ".hook_sae_acts_post"], codes, atol=1e-4)


def test_end_to_end(model):
    options = {"features": 128, "k": 8, "vectors": 1500, "batch": 150, "quiet": True}
    sae = model.train_sae(
        "blocks.4.hook_mlp_out", TEXTS, kind="topk", end_to_end=True, downstream=0.001, aux=0, **options
    )
    losses = sae.training["last"]["losses"]
    assert set(losses) == {"kl_loss", "downstream_mse_loss"} and losses["kl_loss"] > 0
    assert sae.config["metadata"]["training_end_to_end"]["sites"] == [
        "blocks.4.hook_resid_post",
        "blocks.5.hook_resid_post",
    ]
    with pytest.raises(vt.Error, match="matryoshka cannot be trained end to end"):
        model.train_sae("blocks.4.hook_mlp_out", TEXTS, kind="matryoshka", end_to_end=True, **options)


def test_a_language_model_is_trained(tmp_path):
    vt.tokenizer(TEXTS, tmp_path / "words", vocabulary=300)
    small = vt.train(
        TEXTS,
        tmp_path / "model",
        tokenizer=str(tmp_path / "words"),
        layers=1,
        heads=2,
        width=32,
        context=32,
        steps=20,
        batch_tokens=256,
    )
    assert small.config["layers"] == 1 and small.training["steps"] == 20
    assert small.run("Paris").logits.shape[-1] == small.config["vocabulary"]


def test_sae_lens_both_ways(model, sae):
    pytest.importorskip("sae_lens")
    import torch

    theirs = sae.to_sae_lens()
    x = model.run(TEXAS, SITE)[SITE]
    np.testing.assert_allclose(theirs.encode(torch.from_numpy(x.copy())).detach().numpy(), sae.encode(x), atol=1e-3)
    back = vt.Sae.from_sae_lens(theirs)
    np.testing.assert_array_equal(back.encode(x), sae.encode(x))
